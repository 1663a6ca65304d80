//! `cargo bench --bench soak`: a server under everything at once, for minutes or for hours, with an oracle for every
//! answer.
//!
//!     cargo bench --bench soak                     3 minutes
//!     cargo bench --bench soak -- --minutes 240    longer
//!     cargo bench --bench soak -- --rate 4000      more questions a second than 1,000
//!
//! Callers ask good questions and bad ones, others stall; processes write the file with plain SQL and are killed in
//! the middle of it; the commands of the program change it, are killed too, and restore it from a backup; another file
//! is put in its place. Every 200 must be what the file said at some moment while it was asked for. It ends with 1
//! where one was not, where an error has no reason, or where the server has gone.

#![allow(clippy::print_stdout, reason = "what a soak is for")]
#![allow(clippy::unwrap_used, reason = "a soak that fails has found nothing")]

mod callers;
mod client;
mod clock;
mod model;
mod shared;
mod turns;
mod writers;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use shared::Shared;
use turns::Turns;
use writers::Writers;

const WRITERS: usize = 3;
const USERS_A_WRITER: usize = 40;
const USERS_OF_COMMANDS: usize = 12;
const CALLERS: u32 = 8;
const STALLED: usize = 24;

struct Options {
    duration: Duration,
    /// Questions a second.
    rate: u32,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match &args[..] {
        [word, database] if word == "writer" => {
            writers::run(Path::new(database));
            ExitCode::SUCCESS
        }
        _ => soak(&options(&args)),
    }
}

fn options(args: &[String]) -> Options {
    let mut options = Options {
        duration: Duration::from_secs(180),
        rate: 1_000,
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            panic!("{pair:?} has no value")
        };
        match name.as_str() {
            "--minutes" => {
                options.duration = Duration::from_secs_f64(60.0 * value.parse::<f64>().unwrap())
            }
            "--seconds" => options.duration = Duration::from_secs(value.parse().unwrap()),
            "--rate" => options.rate = value.parse().unwrap(),
            _ => panic!("{name:?} is none of --minutes, --seconds and --rate"),
        }
    }
    options
}

fn soak(options: &Options) -> ExitCode {
    model::prove();
    let folder = tempfile::tempdir().unwrap();
    let (database, config) = (
        folder.path().join("soak.db"),
        folder.path().join("soak.toml"),
    );
    let log = folder.path().join("soak.log");
    let init = Command::new(env!("CARGO_BIN_EXE_sessile"))
        .args(["init", "--config", "/dev/null", "--database"])
        .arg(&database)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(init.success());
    writers::prepare(&database);
    let key = turns::key(0);
    fs::write(&config, turns::config(&[&key])).unwrap();
    let mut server = Server::start(&config, &database, &log);

    let written = WRITERS * USERS_A_WRITER;
    let shared = Shared::new(
        written + USERS_OF_COMMANDS,
        server.address.clone(),
        database,
        key,
    );
    let writers = Writers::new(WRITERS);
    let id = server.child.id();
    // Each turn comes several times, however short the soak is.
    let pause = (options.duration / 40).clamp(Duration::from_millis(300), Duration::from_secs(5));
    let mut turns = Turns {
        shared: &shared,
        writers: &writers,
        users: written..written + USERS_OF_COMMANDS,
        server: id,
        config: &config,
        pause,
        backup: None,
        keys: 0,
    };
    let (judge, seen) = channel();
    let (mut before, mut after) = (None, None);
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let users = number * USERS_A_WRITER..(number + 1) * USERS_A_WRITER;
            let (shared, writers) = (&shared, &writers);
            scope.spawn(move || {
                writers::drive(shared, writers, number, users, Duration::from_millis(10))
            });
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (shared, judge) = (&shared, judge.clone());
                let pause = Duration::from_secs(1) * CALLERS / options.rate;
                scope.spawn(move || callers::ask(shared, &judge, pause))
            })
            .collect();
        drop(judge);
        for _ in 0..STALLED {
            scope.spawn(|| callers::stall(&shared));
        }
        scope.spawn(|| turns.run());
        let judged = &shared;
        scope.spawn(move || callers::judge(judged, &seen));

        shared.sleep(options.duration.min(Duration::from_secs(10)) / 2);
        before = State::of(id);
        let begun = clock::now();
        while clock::now() - begun < u64::try_from(options.duration.as_nanos()).unwrap()
            && !shared.is_over()
        {
            shared.sleep(Duration::from_millis(500));
            if let Some(status) = server.child.try_wait().unwrap() {
                shared.fault(format!("the server has gone: {status}"));
                shared.over.store(true, Ordering::Relaxed);
            }
        }
        after = State::of(id);
        shared.over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().unwrap();
        }
    });
    report(&shared, before, after, &log)
}

fn report(shared: &Shared, before: Option<State>, after: Option<State>, log: &Path) -> ExitCode {
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &shared.counts;
    say("requests by status");
    for (status, requests) in shared.statuses() {
        say(&format!("  {status}: {requests}"));
    }
    say(&format!(
        "  {} connections were opened again after the server had closed them",
        number(&counts.reconnected)
    ));
    say(&format!(
        "answers judged: {}; errors while the file was being replaced: {}",
        number(&counts.judged),
        number(&counts.excused)
    ));
    say(&format!(
        "commits: {}; writers killed: {}; commands: {}, of which killed: {}",
        number(&counts.commits),
        number(&counts.writers_killed),
        number(&counts.commands),
        number(&counts.commands_killed)
    ));
    say(&format!(
        "files put in the place of another: {}; restores: {}; keys reloaded: {}; clients that stalled: {}",
        number(&counts.renames),
        number(&counts.restores),
        if turns::RELOADS {
            number(&counts.reloads).to_string()
        } else {
            "not tried".to_owned()
        },
        number(&counts.stalled)
    ));
    for (when, state) in [("at the start", before), ("at the end", after)] {
        if let Some(State { memory, files }) = state {
            say(&format!(
                "{when}: RssAnon {:.1} MB, {files} open files",
                memory as f64 / 1e6
            ));
        }
    }
    let (faults, told) = shared.faults();
    say(&format!(
        "wrong answers, errors without a reason and the like: {faults}"
    ));
    for fault in &told {
        say(&format!("  {fault}"));
    }
    if faults == 0 {
        return ExitCode::SUCCESS;
    }
    say("what the server logged last");
    let logged = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = logged.lines().collect();
    for line in &lines[lines.len().saturating_sub(30)..] {
        say(&format!("  {line}"));
    }
    ExitCode::FAILURE
}

fn say(line: &str) {
    println!("{line}");
}

/// What the kernel says of the server.
struct State {
    /// Resident memory that is no mapped file, in bytes.
    memory: u64,
    files: usize,
}

impl State {
    fn of(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self {
            memory: kilobytes * 1024,
            files: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count(),
        })
    }
}

/// The server, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(config: &Path, database: &Path, log: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessile"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log-level",
                "warn",
                "--log-format",
                "text",
                "--config",
            ])
            .arg(config)
            .arg("--database")
            .arg(database)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening on http://") else {
            panic!(
                "no ready line but {line:?}; {}",
                fs::read_to_string(log).unwrap()
            );
        };
        Self {
            address: address.to_owned(),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
