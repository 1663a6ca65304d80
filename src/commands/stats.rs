//! `sessile stats`: what the file holds, in numbers.

use std::io::{self, Write};

use serde::Serialize;

use super::words::{bytes, distance};
use super::{Done, load, say};
use crate::cli::Stats;
use crate::store::View;
use crate::store::survey::Survey;
use crate::time::Timestamp;

/// The length of the bar that stands for all sessions, in characters.
const BAR: u64 = 24;

pub(super) fn run(args: &Stats) -> anyhow::Result<Done> {
    let config = load(&args.common)?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let survey = View::open(&config.database.path)?.survey(at, &config.policies)?;
    let found = Found::new(&survey, at);
    say(&args.output, &found, |out| tell(out, &survey, at))?;
    Ok(Done::Yes)
}

#[derive(Serialize)]
struct Found {
    at: String,
    tenants: u64,
    users: u64,
    sessions: u64,
    live: u64,
    active: u64,
    idle_ended: u64,
    expired: u64,
    revoked: u64,
    newest_event_at: Option<String>,
    written_at: String,
    /// Left out where the file has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_at: Option<String>,
    file_bytes: u64,
    wal_bytes: u64,
    free_bytes: u64,
}

impl Found {
    fn new(survey: &Survey, at: Timestamp) -> Self {
        let (tally, space) = (&survey.sessions, &survey.space);
        Self {
            at: at.to_string(),
            tenants: survey.tenants,
            users: survey.users,
            sessions: tally.total(),
            live: tally.live,
            active: tally.active,
            idle_ended: tally.idle_ended,
            expired: tally.expired,
            revoked: tally.revoked,
            newest_event_at: tally.newest_event_at.map(|at| at.to_string()),
            written_at: space.extent.written_at.to_string(),
            heartbeat_at: survey.heartbeat.map(|at| at.to_string()),
            file_bytes: space.extent.file,
            wal_bytes: space.extent.wal,
            free_bytes: space.free,
        }
    }
}

fn tell(out: &mut dyn Write, survey: &Survey, at: Timestamp) -> io::Result<()> {
    let (tally, space) = (&survey.sessions, &survey.space);
    let all = tally.total();
    writeln!(out, "tenants       {:>10}", survey.tenants)?;
    writeln!(out, "users         {:>10}", survey.users)?;
    writeln!(out, "sessions      {all:>10}")?;
    for (name, count) in [
        ("live", tally.live),
        ("idle-ended", tally.idle_ended),
        ("expired", tally.expired),
        ("revoked", tally.revoked),
    ] {
        let line = format!("  {name:<11} {count:>10}  {}", bar(count, all));
        writeln!(out, "{}", line.trim_end())?;
    }
    if tally.active < tally.live {
        let ended = tally.live - tally.active;
        writeln!(out, "{ended} of the live ones are ended by a policy")?;
    }
    let newest = match tally.newest_event_at {
        Some(event) => format!("{event}, {}", distance(event, at)),
        None => "none".to_owned(),
    };
    let now = Timestamp::now();
    let aged = |at: Timestamp| format!("{at}, {}", distance(at, now));
    writeln!(out, "newest event  {newest}")?;
    writeln!(out, "last written  {}", aged(space.extent.written_at))?;
    if let Some(heartbeat) = survey.heartbeat {
        writeln!(out, "heartbeat     {}", aged(heartbeat))?;
    }
    writeln!(
        out,
        "file          {}, {} of them free; WAL {}",
        bytes(space.extent.file),
        bytes(space.free),
        bytes(space.extent.wal)
    )
}

/// The share of `count` in `all`; a bar that stands for anything is not empty.
fn bar(count: u64, all: u64) -> String {
    let share = u128::from(count) * u128::from(BAR);
    let length = share.div_ceil(u128::from(all.max(1)));
    "█".repeat(length as usize)
}
