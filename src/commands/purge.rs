//! `sessile purge`: sessions that ended long ago, thrown away.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use super::words::bytes;
use super::{Done, load, say, sessions};
use crate::cli::{Purge, Vacuum};
use crate::session::Outlived;
use crate::store::purge::Purged;
use crate::store::space::Space;
use crate::store::{StoreError, View, Writer};
use crate::time::Timestamp;

pub(super) fn run(args: &Purge) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let now = Timestamp::now();
    let at = args.at.unwrap_or(now);
    if at > now && !args.dry_run {
        bail!(
            "found --at {at}, but it is {now}, and sessions that count until then would go; \
             allowed: an instant up to now, or any with --dry-run"
        );
    }
    let outlived = Outlived::by(at, args.ended_before);
    let (found, vacuumed) = if args.dry_run {
        (would_purge(&path, &outlived)?, Ok(()))
    } else {
        purge(&path, &outlived, args.vacuum)?
    };
    say(&args.output, &found, |out| found.tell(out))?;
    vacuumed
        .context("the sessions are gone, but their room could not be given back to the disk")?;
    Ok(Done::Yes)
}

#[derive(Serialize)]
struct Found {
    purged: u64,
    kept: u64,
    dry_run: bool,
    ended_before: String,
    vacuumed: bool,
    /// The file with its WAL.
    bytes_before: u64,
    bytes_after: u64,
    /// What of the file holds nothing, and will be filled by new sessions.
    bytes_free: u64,
}

impl Found {
    fn new(outlived: &Outlived, purged: Purged, before: Space, after: Space) -> Self {
        Self {
            purged: purged.purged,
            kept: purged.kept,
            dry_run: false,
            ended_before: outlived.revoked.to_string(),
            vacuumed: false,
            bytes_before: before.extent.file + before.extent.wal,
            bytes_after: after.extent.file + after.extent.wal,
            bytes_free: after.free,
        }
    }

    fn tell(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = if self.dry_run {
            "would purge"
        } else {
            "purged"
        };
        let (purged, kept) = (sessions(self.purged), self.kept);
        writeln!(
            out,
            "{verb} {purged} that had ended by {}; {kept} stay",
            self.ended_before
        )?;
        if self.dry_run {
            return Ok(());
        }
        writeln!(
            out,
            "{} on the disk before, {} now, {} of them free for new sessions",
            bytes(self.bytes_before),
            bytes(self.bytes_after),
            bytes(self.bytes_free)
        )
    }
}

fn would_purge(path: &Path, outlived: &Outlived) -> Result<Found, StoreError> {
    let view = View::open(path)?;
    let (purged, space) = (view.purgeable(outlived)?, view.space()?);
    Ok(Found {
        dry_run: true,
        ..Found::new(outlived, purged, space, space)
    })
}

/// What was purged, and whether the room could be given back.
fn purge(
    path: &Path,
    outlived: &Outlived,
    vacuum: Vacuum,
) -> Result<(Found, Result<(), StoreError>), StoreError> {
    let mut writer = Writer::open(path)?;
    let before = writer.space()?;
    let purged = writer.purge(outlived)?;
    let vacuumed = is_worth_it(vacuum, purged, writer.space()?).then(|| writer.vacuum());
    // A reader that keeps the WAL from being emptied keeps nothing else: the next checkpoint does it. Litestream is such
    // a reader, for good, and cuts the WAL itself: writers need not wait for attempts in vain.
    if !writer.is_replicated()? {
        writer.empty_wal()?;
    }
    let found = Found {
        vacuumed: matches!(vacuumed, Some(Ok(()))),
        ..Found::new(outlived, purged, before, writer.space()?)
    };
    Ok((found, vacuumed.unwrap_or(Ok(()))))
}

/// Room in a file that is used all the time is soon filled again, so it is given back where that is a quarter of it.
/// Rows that went from between others leave no page free, but pages that a rewritten file fills better.
fn is_worth_it(vacuum: Vacuum, purged: Purged, space: Space) -> bool {
    match vacuum {
        Vacuum::Always => true,
        Vacuum::Never => false,
        Vacuum::Auto => purged.purged * 3 > purged.kept || space.free * 4 > space.extent.file,
    }
}
