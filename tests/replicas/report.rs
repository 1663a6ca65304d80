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
    asked("writer node", &figures.written);
    asked("new writer node", &figures.written_anew);
    readers(figures);
    recovery(&figures.recovery);
    let (faults, told) = shared.faults();
    row(
        "wrong answers, and what did not come to pass",
        &[faults.to_string()],
    );
    for fault in &told {
        say(&format!("  {fault}"));
    }
    if faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is told, with a value, or with one of each read node.
fn row(what: &str, values: &[String]) {
    let values: String = values.iter().map(|value| format!("{value:>14}")).collect();
    say(&format!("{what:<62}{values}"));
}

fn replication(replicated: &Replicated) {
    let seconds = replicated.span.as_secs_f64();
    let commits = replicated.commits as f64;
    say("Litestream on the writer node");
    row("  commits a second", &[format!("{:.0}", commits / seconds)]);
    row(
        "  share of a processor",
        &[format!(
            "{:.1} %",
            100.0 * replicated.processor.as_secs_f64() / seconds
        )],
    );
    row(
        "  replica, a commit",
        &[format!("{:.0} B", replicated.bytes as f64 / commits)],
    );
    row("  files of commits", &[replicated.files.to_string()]);
    row("  snapshots", &[replicated.snapshots.to_string()]);
    row("  the largest", &[megabytes(replicated.snapshot)]);
}

fn asked(name: &str, seen: &Seen) {
    say(name);
    row("  answers", &[seen.answers.to_string()]);
    row("  wrong", &[seen.wrong.to_string()]);
}

fn readers(figures: &Figures) {
    let seen = |what: &str, value: &dyn Fn(&Seen) -> String| {
        row(what, &figures.read.each_ref().map(value));
    };
    say("read nodes");
    seen("  answers", &|seen| seen.answers.to_string());
    seen("  wrong", &|seen| seen.wrong.to_string());
    seen("  connections that they closed", &|seen| {
        seen.reconnected.to_string()
    });
    seen("  age of the data, median", &|seen| at(&seen.ages, 0.5));
    seen("  p99", &|seen| at(&seen.ages, 0.99));
    seen("  worst", &|seen| at(&seen.ages, 1.0));
    seen("  age by its heartbeat, median", &|seen| {
        at(&seen.stated, 0.5)
    });
    seen("  worst", &|seen| at(&seen.stated, 1.0));
    seen("  times that the file could not be looked at", &|seen| {
        seen.silent.to_string()
    });
    let took = |what: &str, value: &dyn Fn(&[Took]) -> String| {
        row(what, &figures.refreshes.each_ref().map(|took| value(took)));
    };
    took("  states taken over", &|took| took.len().to_string());
    took("  time of one, median", &|took| {
        middle(took, |took| took.time)
    });
    took("  of the processors", &|took| {
        middle(took, |took| took.processor)
    });
    seen("  an answer meanwhile, p99", &|seen| at(&seen.beside, 0.99));
    seen("  worst", &|seen| at(&seen.beside, 1.0));
    seen("  an answer else, p99", &|seen| at(&seen.quiet, 0.99));
    seen("  worst", &|seen| at(&seen.quiet, 1.0));
    row(
        "  stale by /readyz, after the writer node was killed",
        &figures.turned_red.map(time),
    );
    row(
        "  follows the new one, after its begin",
        &figures.followed.map(time),
    );
    row(
        "  users counted again in its file at the end",
        &figures.end.each_ref().map(|end| end.answers.to_string()),
    );
    row(
        "  wrong",
        &figures.end.each_ref().map(|end| end.wrong.to_string()),
    );
}

fn recovery(recovery: &Recovery) {
    let counted = |counted: &Counted| {
        row("  users counted again", &[counted.answers.to_string()]);
        row("  wrong", &[counted.wrong.to_string()]);
    };
    say("recovery");
    row(
        "  from the kill to an answer of a new writer node",
        &[time(recovery.time)],
    );
    row(
        "  of that, to restore the newest state",
        &[time(recovery.restored.time)],
    );
    row("  commits in it", &[recovery.newest.held.to_string()]);
    row("  commits lost", &[recovery.lost.to_string()]);
    row("  of the last", &[format!("{} ms", recovery.lost_millis)]);
    counted(&recovery.newest);
    row(
        "  to restore a moment",
        &[time(recovery.moment_restored.time)],
    );
    row("  commits in it", &[recovery.moment.held.to_string()]);
    row(
        "  older than the moment by",
        &[format!("{} ms", recovery.older_millis)],
    );
    counted(&recovery.moment);
}

fn time(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn middle(took: &[Took], time: fn(&Took) -> Duration) -> String {
    let millis = median(took.iter().map(|took| time(took).as_secs_f64() * 1e3));
    format!("{millis:.0} ms")
}

/// The value, in milliseconds, below which a share of all is.
fn at(values: &[f64], share: f64) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let value = values.get((last as f64 * share) as usize);
    value.map_or("none".to_owned(), |value| format!("{value:.1} ms"))
}
