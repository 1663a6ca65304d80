//! `sessile swap`: another file in the place of the data file.

use std::path::Path;

use serde::Serialize;

use super::words::distance;
use super::{Done, load, say, sessions, warn};
use crate::cli::Swap;
use crate::store::backup::Depth;
use crate::store::swap::{Options, Replaced, swap};
use crate::time::Timestamp;

#[derive(Serialize)]
struct Found<'p> {
    database: &'p Path,
    new: &'p Path,
    sessions: u64,
    /// Left out where the file has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_at: Option<String>,
}

pub(super) fn run(args: &Swap) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let options = Options {
        depth: if args.quick {
            Depth::Quick
        } else {
            Depth::Full
        },
        force: args.force,
    };
    let swapped = swap(&path, &args.new, options)?;
    let found = Found {
        database: &path,
        new: &args.new,
        sessions: swapped.sessions,
        heartbeat_at: swapped.heartbeat.map(|at| at.to_string()),
    };
    let now = Timestamp::now();
    say(&args.output, &found, |out| {
        write!(
            out,
            "{} is now what was {}: {}",
            path.display(),
            args.new.display(),
            sessions(swapped.sessions)
        )?;
        match swapped.heartbeat {
            Some(at) => writeln!(out, ", heartbeat {at}, {}", distance(at, now)),
            None => writeln!(out),
        }
    })?;
    if let Replaced::Unreadable(fault) = &swapped.replaced {
        warn(&format!(
            "the file that was there could not be read: {fault}"
        ));
    }
    if let Some(at) = swapped.heartbeat.filter(|at| *at > now) {
        warn(&format!(
            "its heartbeat is {} by the clock here; keep the clocks of both machines by NTP",
            distance(at, now)
        ));
    }
    Ok(Done::Yes)
}
