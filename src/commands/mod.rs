//! The commands, one verb a file, and what their ends mean to a shell.

mod audit;
mod backup;
mod check;
mod config;
mod delete;
mod doctor;
mod explain;
mod export;
mod heartbeat;
mod import;
mod init;
mod key;
mod purge;
mod restore;
mod revoke;
mod serve;
mod stats;
mod swap;
mod words;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{Cli, Command, Common, Key, Output};
use crate::config::{Config, Faults, Flags};
use crate::server::BindError;
use crate::store::StoreError;
use crate::systemd::SocketError;

/// How a command ended that did what it was asked for.
enum Done {
    /// 0
    Yes,
    /// 1: it found that the answer is no.
    No,
}

/// Runs a command to its end. An error is one sentence on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Revoke(args) => revoke::run(args),
        Command::Purge(args) => purge::run(&args),
        Command::Delete(args) => delete::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Swap(args) => swap::run(&args),
        Command::Heartbeat(args) => heartbeat::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Key(Key::New { name, output }) => key::new(&name, &output),
    };
    match done {
        Ok(Done::Yes) => ExitCode::SUCCESS,
        Ok(Done::No) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "sessile: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 2 usage or other trouble, 3 configuration, 4 data file, 5 address.
fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| match cause {
            _ if cause.is::<Faults>() => Some(3),
            _ if cause.is::<StoreError>() => Some(4),
            _ if cause.is::<BindError>() || cause.is::<SocketError>() => Some(5),
            _ => None,
        })
        .unwrap_or(2)
}

/// Standard output. A reader that has had enough, as `head` has, changes nothing of what a command does, nor of how
/// it ends.
fn out() -> impl Write {
    struct Out(io::Stdout);

    fn unless_broken<T>(result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(instead),
            result => result,
        }
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            unless_broken(self.0.write(bytes), bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            unless_broken(self.0.flush(), ())
        }
    }

    Out(io::stdout())
}

/// Says what a command found or did: as one line of JSON for programs, or in `words` for people. The shape of the
/// JSON is part of the command's interface: members are added to it, never renamed or taken away.
fn say(
    output: &Output,
    found: &impl Serialize,
    words: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = out();
    if output.json {
        writeln!(out, "{}", serde_json::to_string(found)?)?;
    } else {
        words(&mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// Says what deserves attention, beside what the command reports.
fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "sessile: warning: {text}");
}

/// `1 session`, `3 sessions`.
fn sessions(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} session{plural}")
}

/// Whether both paths lead to one and the same file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    };
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// The configuration for a command that takes no flags of its own for it.
fn load(common: &Common) -> Result<Config, Faults> {
    Config::load(&Flags {
        config: common.config.clone(),
        database: common.database.clone(),
        ..Flags::default()
    })
}
