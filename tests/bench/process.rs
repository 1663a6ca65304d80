//! The servers as processes, and what the kernel says of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The key that callers send.
pub(crate) const KEY: &str = "a-key-for-benchmarks-of-32-chars";

/// A running server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `host:port`
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn bare() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("bare");
        Self::start(command)
    }

    pub(crate) fn sessile(database: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessile"));
        command.args([
            "serve",
            "--config",
            "/dev/null",
            "--listen",
            "127.0.0.1:0",
            "--database",
        ]);
        command.arg(database).env("INTERNAL_API_KEY", KEY);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening on http://") else {
            let mut error = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            panic!("no ready line but {line:?}; {error}");
        };
        let address = address.to_owned();
        Self { child, address }
    }

    /// The time that its threads, those that live, have run.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            let statistics =
                fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            statistics
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Resident memory that is no mapped file, in bytes.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
