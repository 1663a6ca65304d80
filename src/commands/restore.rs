//! `sessile restore`: a backup's contents into the live file.

use std::path::Path;

use serde::Serialize;

use super::{Done, load, say, sessions, warn};
use crate::cli::Restore;
use crate::store::restore::{Comparison, Options, Replaced, restore};

#[derive(Serialize)]
struct Found<'p> {
    database: &'p Path,
    backup: &'p Path,
    sessions: u64,
    /// Left out where there was no file before, or none that could be read.
    #[serde(flatten)]
    before: Option<Before>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Before {
    sessions_before: u64,
    revocations_undone: u64,
    revocations_kept: u64,
    erasures_undone: u64,
    audit_rows_kept: u64,
}

pub(super) fn run(args: &Restore) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let options = Options {
        keep_revocations: args.keep_revocations,
        dry_run: args.dry_run,
    };
    let restored = restore(&path, &args.backup, options)?;
    let before = match &restored.replaced {
        Replaced::File(comparison) => Some(comparison),
        Replaced::Nothing | Replaced::Unreadable(_) => None,
    };
    let found = Found {
        database: &path,
        backup: &args.backup,
        sessions: restored.sessions,
        before: before.map(|before| Before {
            sessions_before: before.sessions,
            revocations_undone: before.revived,
            revocations_kept: before.kept,
            erasures_undone: before.erasures,
            audit_rows_kept: before.audit_rows,
        }),
        dry_run: args.dry_run,
    };
    say(&args.output, &found, |out| {
        let verb = if args.dry_run {
            "would restore"
        } else {
            "restored"
        };
        write!(
            out,
            "{verb} {} from {} into {}",
            sessions(restored.sessions),
            args.backup.display(),
            path.display()
        )?;
        match &restored.replaced {
            Replaced::Nothing => writeln!(out, ", a new file"),
            Replaced::Unreadable(_) => writeln!(out, ", which could not be read any more"),
            Replaced::File(before) if before.kept > 0 => writeln!(
                out,
                ", which had {}; {} of them stay revoked",
                sessions(before.sessions),
                before.kept
            ),
            Replaced::File(before) => writeln!(out, ", which had {}", sessions(before.sessions)),
        }
    })?;
    match &restored.replaced {
        Replaced::Nothing => {}
        Replaced::File(before) => warn_of_undone(before, args.dry_run),
        Replaced::Unreadable(fault) => warn(&format!(
            "the file that was there could not be read ({fault}), so neither its audit nor its revocations were minded"
        )),
    }
    Ok(Done::Yes)
}

/// What was meant to be for good and no longer is.
fn warn_of_undone(before: &Comparison, dry_run: bool) {
    if before.revived > 0 {
        let (are, would) = match dry_run {
            true => ("would not be", "keeps"),
            false => ("are not", "would have kept"),
        };
        warn(&format!(
            "{} that had been revoked {are} revoked any more; --keep-revocations {would} them so",
            sessions(before.revived)
        ));
    }
    if before.erasures > 0 {
        warn(&format!(
            "{} of `sessile delete` later than the backup {} undone; `sessile audit` lists them, delete those users again",
            before.erasures,
            if dry_run { "would be" } else { "are" }
        ));
    }
}
