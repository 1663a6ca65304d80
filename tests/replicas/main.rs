//! `cargo bench --bench replicas`: a writer node, two read nodes and a recovery, with the real Litestream between them
//! and an oracle for every answer.
//!
//!     cargo bench --bench replicas                      30 seconds until the writer node is killed
//!     cargo bench --bench replicas -- --seconds 600     longer
//!     cargo bench --bench replicas -- --rows 1000000    with so many sessions more in the file
//!     cargo bench --bench replicas -- --rate 1000       more commits a second than 100
//!     cargo bench --bench replicas -- --pause 5         as much between two runs of `follow` as is packaged, not 1 s
//!
//! Nodes are folders, with the programs that run on a machine of their kind: what is packaged for Litestream, as it is
//! but for paths and the interval of snapshots. All are asked all the time. The writer node is killed; its file is
//! restored elsewhere, to the newest state and to that of a moment, and a new writer node goes on with it. It takes
//! Litestream 0.3: `$LITESTREAM`, or `litestream` on the PATH. It ends with 1 where an answer was wrong, where a node
//! said of its data that it is newer than it is, or where something did not come to pass.

#![allow(clippy::print_stdout, reason = "what a benchmark is for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails has no figures")]

mod callers;
#[path = "../soak/client.rs"]
mod client;
#[path = "../soak/clock.rs"]
mod clock;
#[path = "../bench/data.rs"]
mod data;
#[path = "../bench/figures.rs"]
mod figures;
mod history;
mod login;
mod node;
mod oracle;
mod process;
mod reader;
mod recovery;
mod report;
mod seen;
mod shared;
mod writer;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::thread::{self, sleep};
use std::time::Duration;

use clock::wall;
use reader::Reader;
use recovery::Recovery;
use report::Figures;
use shared::{End, Shared};
use writer::Writer;

/// For how long read nodes are asked before they take over anything.
const QUIET: Duration = Duration::from_secs(2);

/// How long read nodes may take to hold what is committed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Options {
    /// From the first time that a read node takes over a state until the writer node is killed.
    duration: Duration,
    rows: u64,
    /// Commits a second.
    rate: u32,
    /// Between two runs of `follow`.
    pause: Duration,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let options = options(&args);
    history::prove();
    let litestream = PathBuf::from(std::env::var_os("LITESTREAM").unwrap_or("litestream".into()));
    if let Err(error) = Command::new(&litestream).arg("version").output() {
        say(&format!(
            "skipped: {} can't be run here: {error}",
            litestream.display()
        ));
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let shared = Shared::new(options, folder.path(), litestream);
    let figures = test(&shared);
    report::tell(&shared, &figures)
}

fn options(args: &[String]) -> Options {
    let mut options = Options {
        duration: Duration::from_secs(30),
        rows: 0,
        rate: 100,
        pause: Duration::from_secs(1),
    };
    for pair in args.chunks(2) {
        let [name, value] = pair else {
            panic!("{pair:?} has no value")
        };
        match name.as_str() {
            "--seconds" => options.duration = Duration::from_secs(value.parse().unwrap()),
            "--rows" => options.rows = value.parse().unwrap(),
            "--rate" => options.rate = value.parse().unwrap(),
            "--pause" => options.pause = Duration::from_secs(value.parse().unwrap()),
            _ => panic!("{name:?} is none of --seconds, --rows, --rate and --pause"),
        }
    }
    options
}

fn test(shared: &Shared) -> Figures {
    let mut writer = Writer::start(shared);
    let readers = ["reader-1", "reader-2"].map(|name| Reader::start(shared, name));
    thread::scope(|scope| {
        // Whatever happens, no thread goes on for ever.
        let end = End(shared);
        let asking = readers
            .each_ref()
            .map(|reader| callers::ask(scope, shared, &reader.asked));
        let working = writer.work(scope, shared);
        sleep(QUIET);
        let following = readers
            .each_ref()
            .map(|reader| scope.spawn(|| reader.follow(shared)));
        // What has grown old before that is no age.
        let held = shared.history.numbers().1;
        for reader in &readers {
            reader.goes_on(shared, held, PATIENCE);
        }
        shared.is_replicated.store(true, Ordering::SeqCst);
        let before = writer.replication(shared);
        sleep(shared.options.duration / 2);
        let moment = wall();
        sleep(shared.options.duration / 2);
        let replicated = writer.replication(shared) - before;

        let killed = writer.kill(shared);
        let written = working.join();
        let turning = readers
            .each_ref()
            .map(|reader| scope.spawn(move || reader.turns_red(shared, &killed)));
        let (recovery, restored) = Recovery::of(shared, &killed, moment, &readers);
        let turned_red = turning.map(|turned| turned.join().unwrap());
        let (_new, working, followed) = recovery::go_on(scope, shared, restored, &readers);
        drop(end);
        Figures {
            replicated,
            written,
            recovery,
            turned_red,
            followed,
            written_anew: working.join(),
            read: asking.map(callers::Callers::join),
            refreshes: following.map(|refreshes| refreshes.join().unwrap()),
            end: readers
                .each_ref()
                .map(|reader| oracle::count_again(shared, &reader.node)),
        }
    })
}

pub(crate) fn say(line: &str) {
    println!("{line}");
}
