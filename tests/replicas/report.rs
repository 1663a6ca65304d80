//! What is told at the end.

use std::process::ExitCode;
use std::time::Duration;

use crate::figures::median;
use crate::oracle::Counted;
use crate::process::Took;
use crate::recovery::Recovery;
use crate::say;
use crate::seen::Seen;
use crate::shared::Shared;
use crate::writer::Replicated;

/// What was measured, of the two read nodes in their order.
pub(crate) struct Figures {
    pub(crate) replicated: Replicated,
    /// What callers saw of the writer node, of the new one, and of the read nodes.
    pub(crate) written: Seen,
    pub(crate) written_anew: Seen,
    pub(crate) read: [Seen; 2],
    pub(crate) refreshes: [Vec<Took>; 2],
    /// How long after the kill read nodes said that they are stale, and after the begin of a new writer node that they
    /// follow it.
    pub(crate) turned_red: [Duration; 2],
    pub(crate) followed: [Duration; 2],
    pub(crate) recovery: Recovery,
    /// The read nodes' files, after all.
    pub(crate) end: [Counted; 2],
}

pub(crate) fn tell(shared: &Shared, figures: &Figures) -> ExitCode {
    replication(&figures.replicated);
    asked("writer", &figures.written);
    for (number, (seen, refreshes)) in figures.read.iter().zip(&figures.refreshes).enumerate() {
        asked(&format!("reader-{}", number + 1), seen);
        read(seen, refreshes);
    }
    recovery(&figures.recovery);
    let [red, followed] = [figures.turned_red, figures.followed].map(|times| {
        let [first, second] = times.map(|time| time.as_secs_f64());
        format!("after {first:.1} and {second:.1} s")
    });
    say(&format!(
        "read nodes said {red} that they are stale, and followed the new writer node {followed}"
    ));
    asked("new writer", &figures.written_anew);
    for end in &figures.end {
        say(&format!("a read node's file at the end: {}", counted(end)));
    }
    let (faults, told) = shared.faults();
    say(&format!(
        "wrong answers, and what did not come to pass: {faults}"
    ));
    for fault in &told {
        say(&format!("  {fault}"));
    }
    if faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn replication(replicated: &Replicated) {
    let seconds = replicated.span.as_secs_f64();
    say(&format!(
        "litestream: {:.0} commits/s; {} files of {:.0} bytes a commit, {} snapshots, the largest of {:.2} MB; {:.1} % of a processor",
        replicated.commits as f64 / seconds,
        replicated.files,
        replicated.bytes as f64 / replicated.commits as f64,
        replicated.snapshots,
        replicated.snapshot as f64 / 1e6,
        100.0 * replicated.processor.as_secs_f64() / seconds,
    ));
}

fn asked(name: &str, seen: &Seen) {
    say(&format!(
        "{name}: {} answers, {} wrong; {} times the server had closed the connection",
        seen.answers, seen.wrong, seen.reconnected
    ));
}

fn read(seen: &Seen, refreshes: &[Took]) {
    say(&format!("  age of the data: {}", spread(&seen.ages)));
    say(&format!(
        "  by its heartbeat: {} of {}, which was not told {} times",
        spread(&seen.stated),
        seen.stated.len(),
        seen.silent
    ));
    let took = |time: fn(&Took) -> Duration| {
        median(refreshes.iter().map(|took| time(took).as_secs_f64() * 1e3))
    };
    say(&format!(
        "  {} states taken over, in {:.0} ms each, and {:.0} ms of the processors",
        refreshes.len(),
        took(|took| took.time),
        took(|took| took.processor),
    ));
    say(&format!(
        "  answers: p99 {:.2} ms of {} beside that, {:.2} ms of {} else",
        at(&seen.beside, 0.99),
        seen.beside.len(),
        at(&seen.quiet, 0.99),
        seen.quiet.len(),
    ));
}

fn recovery(recovery: &Recovery) {
    say(&format!(
        "recovery: the new writer node answers {:.2} s after the kill, of which {:.2} s restored the newest state: {}",
        recovery.time.as_secs_f64(),
        recovery.restored.time.as_secs_f64(),
        counted(&recovery.newest),
    ));
    say(&format!(
        "  {} commits of the last {} ms are lost",
        recovery.lost, recovery.lost_millis
    ));
    say(&format!(
        "to a moment: restored in {:.2} s, {} ms older than that: {}",
        recovery.moment_restored.time.as_secs_f64(),
        recovery.older_millis,
        counted(&recovery.moment),
    ));
}

fn counted(counted: &Counted) -> String {
    format!(
        "{} commits; {} users counted again, {} wrong",
        counted.held, counted.answers, counted.wrong
    )
}

fn spread(millis: &[f64]) -> String {
    format!(
        "median {:.0} ms, p99 {:.0} ms, worst {:.0} ms",
        median(millis.iter().copied()),
        at(millis, 0.99),
        at(millis, 1.0)
    )
}

/// The value below which a share of all is.
fn at(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}
