//! `sessile backup`: a copy of the live file.

use std::path::Path;

use serde::Serialize;

use super::{Done, load, say, sessions};
use crate::cli::Backup;
use crate::store::backup::back_up;

#[derive(Serialize)]
struct Made<'p> {
    database: &'p Path,
    backup: &'p Path,
    sessions: u64,
    bytes: u64,
    /// The instant that the copy is of.
    at: String,
}

pub(super) fn run(args: &Backup) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let made = back_up(&path, &args.copy, args.force)?;
    let found = Made {
        database: &path,
        backup: &args.copy,
        sessions: made.sessions,
        bytes: made.bytes,
        at: made.at.to_string(),
    };
    say(&args.output, &found, |out| {
        writeln!(
            out,
            "copied {} of {} as of {} to {} ({} bytes)",
            sessions(made.sessions),
            path.display(),
            made.at,
            args.copy.display(),
            made.bytes,
        )
    })?;
    Ok(Done::Yes)
}
