//! The data file: whether it is one to answer from, whether its pages are sound, and what its writers left in it.

use std::path::Path;

use super::report::{Report, quoted};
use crate::commands::sessions;
use crate::store::backup::{Depth, folder};
use crate::store::health::{Health, examine as examine_file};
use crate::store::schema::FORMAT;
use crate::store::{FileFault, StoreError};
use crate::time::{Span, Timestamp};

/// How far the clock of a writer may be ahead of ours.
const AHEAD: Span = Span::from_minutes(5);

/// A clock before this instant, 2025-01-01T00:00:00Z, was never set.
const EARLIEST: Timestamp = Timestamp::from_millis(1_735_689_600_000);

pub(super) fn examine(report: &mut Report, path: &Path, depth: Depth) {
    let now = Timestamp::now();
    let newest_event_at = match examine_file(path, depth) {
        Ok(health) => {
            report.ok(
                "file",
                format!(
                    "{} is a sessile file of format {FORMAT}, in WAL mode",
                    path.display()
                ),
            );
            integrity(report, &health, path, depth);
            imports(report, &health, path);
            health.newest_event_at
        }
        Err(error) => {
            let mend = mend(&error, path);
            report.fault("file", error.to_string(), mend);
            None
        }
    };
    clock(report, newest_event_at, now);
}

fn integrity(report: &mut Report, health: &Health, path: &Path, depth: Depth) {
    match (&health.damage, depth) {
        (Some(damage), _) => report.fault("integrity", damage.to_string(), mend(damage, path)),
        (None, Depth::Full) => report.ok(
            "integrity",
            "every page is sound, and each index has what its table has".to_owned(),
        ),
        (None, Depth::Quick) => report.ok(
            "integrity",
            "every page is sound; whether each index has what its table has is looked at without --quick".to_owned(),
        ),
    }
}

fn imports(report: &mut Report, health: &Health, path: &Path) {
    for import in &health.unfinished {
        report.warning(
            "import",
            format!(
                "an import of {} that began at {} has taken {} and is not done",
                import.input,
                import.started_at,
                sessions(import.sessions)
            ),
            Some(format!(
                "sessile import --resume --database {} {}",
                quoted(path),
                quoted(Path::new(&import.input))
            )),
        );
    }
}

/// The command that mends what is wrong with the file as a whole.
fn mend(error: &StoreError, path: &Path) -> Option<String> {
    let file = quoted(path);
    match error.fault {
        FileFault::Missing => Some(format!("sessile init --database {file}")),
        FileFault::Empty => Some(format!("rm {file} && sessile init --database {file}")),
        FileFault::Older { .. } => Some(format!("sessile init --upgrade --database {file}")),
        FileFault::NotWal { .. } => Some(format!("sqlite3 {file} 'PRAGMA journal_mode = WAL'")),
        FileFault::Damaged { .. } | FileFault::Misshapen { .. } => {
            Some(format!("sessile restore --database {file} BACKUP"))
        }
        FileFault::NotSqlite | FileFault::Foreign { .. } => Some(format!(
            "mv {file} {file}.other && sessile init --database {file}"
        )),
        FileFault::Unopenable(_) | FileFault::Io(_) => Some(format!("namei -l {file}")),
        FileFault::Locked(_) => Some(format!("fuser -v {file}")),
        FileFault::NotAlone { .. } => Some(format!("ls -l {}", quoted(folder(path)))),
        _ => None,
    }
}

fn clock(report: &mut Report, newest_event_at: Option<Timestamp>, now: Timestamp) {
    let mend = || Some("timedatectl set-ntp true".to_owned());
    let ahead = newest_event_at.filter(|newest| *newest > now.saturating_add(AHEAD));
    if now < EARLIEST {
        let found = format!("it is {now} by this machine's clock, which was never set");
        report.fault("clock", found, mend());
    } else if let Some(newest) = ahead {
        let found = format!(
            "it is {now} by this machine's clock, but the newest event in the file is of {newest}"
        );
        report.warning("clock", found, mend());
    } else {
        report.ok("clock", format!("it is {now}"));
    }
}
