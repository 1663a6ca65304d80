//! What became of an input.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::commands::sessions;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The records of the input, those of an earlier run included.
    pub(super) records: u64,
    pub(super) new: u64,
    pub(super) replaced: u64,
    /// How many of these two came as ended.
    pub(super) ended: u64,
    /// How many records were at fault.
    pub(super) skipped: u64,
    /// How many sessions a snapshot ended by not having them.
    pub(super) absent: u64,
    /// How many faults there were, and how many of them keep everything from being written.
    pub(super) faults: u64,
    pub(super) fatal: u64,
}

impl Tally {
    /// The number of sessions that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.new + self.replaced
    }
}

/// What is said at the end.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    database: &'a Path,
    dry_run: bool,
    sessions: u64,
    new: u64,
    replaced: u64,
    came_active: u64,
    came_ended: u64,
    /// Sessions of the tenant that were not in the snapshot of it.
    ended_by_snapshot: u64,
    skipped: u64,
    skipped_into: Option<&'a Path>,
    /// Records that an earlier run was done with.
    done_before: u64,
}

impl<'a> Summary<'a> {
    pub(super) fn new(
        tally: &Tally,
        database: &'a Path,
        dry_run: bool,
        skipped_into: Option<&'a Path>,
        done_before: u64,
    ) -> Self {
        Self {
            database,
            dry_run,
            sessions: tally.taken(),
            new: tally.new,
            replaced: tally.replaced,
            came_active: tally.taken() - tally.ended,
            came_ended: tally.ended,
            ended_by_snapshot: tally.absent,
            skipped: tally.skipped,
            skipped_into,
            done_before,
        }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = if self.dry_run {
            "would import"
        } else {
            "imported"
        };
        write!(
            out,
            "{verb} {} into {}: {} new, {} replaced; {} came active, {} ended",
            sessions(self.sessions),
            self.database.display(),
            self.new,
            self.replaced,
            self.came_active,
            self.came_ended,
        )?;
        if self.ended_by_snapshot > 0 {
            let count = self.ended_by_snapshot;
            write!(out, "; {count} that the snapshot has not were ended")?;
        }
        if self.skipped > 0 {
            write!(out, "; {} at fault were left out", self.skipped)?;
        }
        if let Some(path) = self.skipped_into.filter(|_| self.skipped > 0) {
            write!(out, ", into {}", path.display())?;
        }
        if self.done_before > 0 {
            write!(out, "; {} were done before", self.done_before)?;
        }
        writeln!(out)
    }
}
