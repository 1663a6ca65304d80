//! Processes that end with whoever started them, and what the kernel says of their work.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// A process in the background, killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Kept open, since a program may say more.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let child = command.stdout(Stdio::null()).stderr(append(log)).spawn();
        Self {
            child: child.unwrap(),
            _stdout: None,
        }
    }

    /// Waits for the first line on its standard output, too.
    pub(crate) fn start_and_hear(command: &mut Command, log: &Path) -> (Self, String) {
        let child = command.stdout(Stdio::piped()).stderr(append(log)).spawn();
        let mut child = child.unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let process = Self {
            child,
            _stdout: Some(stdout),
        };
        (process, line)
    }

    /// As a machine that loses its power: SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command took.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    /// Of the processors, with that of what it started itself.
    pub(crate) processor: Duration,
}

/// Runs a command to its end; how it failed, if it did.
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<Took, String> {
    let began = Instant::now();
    let child = command.stdout(Stdio::null()).stderr(append(log)).spawn();
    let mut child = child.unwrap();
    let whole = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), whole).unwrap();
    let took = Took {
        time: began.elapsed(),
        processor: processor_time(&child),
    };
    let status = child.wait().unwrap();
    if status.success() {
        return Ok(took);
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let last = said.lines().last().unwrap_or_default();
    Err(format!(
        "{}: {status}: {last}",
        command.get_program().display()
    ))
}

fn append(log: &Path) -> File {
    File::options().create(true).append(true).open(log).unwrap()
}

/// Of a process that was not waited for yet, and of those that it has waited for.
fn processor_time(child: &Child) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    // utime, stime, cutime and cstime, the 14th field to the 17th.
    let ticks: u64 = fields
        .skip(11)
        .take(4)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}
