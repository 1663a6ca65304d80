//! `sessile import`: sessions from elsewhere into the data file, all of them or none.

use std::fs::File;
use std::io::{Read, Write, stderr, stdin};
use std::path::Path;

use anyhow::{Context, bail};

use super::{Done, load, out, warn};
use crate::cli;
use crate::exchange::{self, Fault, Place, Stop, quote};
use crate::session::Session;
use crate::store::import::{Import, Put};
use crate::store::{StoreError, Writer};
use crate::time::Timestamp;

/// How many faults are told in full; the rest is counted.
const TOLD: u64 = 100;

pub(super) fn run(args: &cli::Import) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let input: Box<dyn Read> = match args.input.as_path() {
        input if input == Path::new("-") => Box::new(stdin()),
        input => {
            Box::new(File::open(input).with_context(|| format!("can't read {}", input.display()))?)
        }
    };
    let now = args.at.unwrap_or_else(Timestamp::now);
    if now < Timestamp::from_millis(0) {
        bail!("found --at {now}; allowed: an instant from the year 1970 on, as in the data file");
    }
    let mut writer = Writer::open(&path)?;
    let tally = import(&mut writer, input, now, args.dry_run)?;
    if tally.faults > 0 {
        let more = tally.faults.saturating_sub(TOLD);
        if more > 0 {
            let _ = writeln!(stderr(), "… and {more} more");
        }
        let plural = if tally.faults == 1 { "" } else { "s" };
        bail!(
            "{} fault{plural} in {} sessions; nothing was written",
            tally.faults,
            tally.rows
        );
    }
    let verb = if args.dry_run {
        "would import"
    } else {
        "imported"
    };
    let plural = if tally.rows == 1 { "" } else { "s" };
    writeln!(
        out(),
        "{verb} {} session{plural} into {}: {} new, {} replaced; {} came active, {} ended",
        tally.rows,
        path.display(),
        tally.new,
        tally.replaced,
        tally.rows - tally.revoked,
        tally.revoked,
    )?;
    Ok(Done::Yes)
}

/// What became of an input.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    new: u64,
    replaced: u64,
    /// How many of the rows came as ended.
    revoked: u64,
    faults: u64,
}

/// Puts all of `input` into the file, unless anything in it is at fault. Tells faults and warnings as they come.
pub(super) fn import(
    writer: &mut Writer,
    input: impl Read,
    now: Timestamp,
    dry_run: bool,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut import = writer.import()?;
    let read = exchange::read(input, now, &mut |place, session| {
        put(&mut import, &mut tally, place, session)
    });
    let notes = match read {
        Ok(notes) => notes,
        Err(Stop::Io(error)) => return Err(error).context("can't read the input"),
        Err(Stop::Sink(error)) => return Err(error.into()),
    };
    tally.rows = notes.rows;
    for (name, count) in &notes.unknown {
        warn(&format!(
            "the field {} is not known and was ignored, {count}×",
            quote(name)
        ));
    }
    if let Some(total) = notes.total.filter(|total| *total != notes.rows) {
        warn(&format!(
            "total is {total}, but there are {} sessions",
            notes.rows
        ));
    }
    if tally.faults == 0 && !dry_run {
        import.commit()?;
    }
    Ok(tally)
}

fn put(
    import: &mut Import<'_>,
    tally: &mut Tally,
    place: Place,
    session: Result<Session, Vec<Fault>>,
) -> Result<(), StoreError> {
    let session = match session {
        Ok(session) => session,
        Err(faults) => {
            faults.iter().for_each(|fault| tally.tell(place, fault));
            return Ok(());
        }
    };
    match import.put(&session)? {
        Put::New => tally.new += 1,
        Put::Replaced => tally.replaced += 1,
        Put::Twice => {
            let found = format!(
                "{} of tenant {} for the second time",
                quote(session.id.as_str()),
                session.tenant_id
            );
            tally.tell(
                place,
                &Fault::of_field("id", found, "each session once in an input"),
            );
        }
        Put::OtherUser(user) => {
            let found = quote(session.user_id.as_str());
            let allowed = format!(
                "{}, whose session {} is in the file",
                quote(&user),
                quote(session.id.as_str())
            );
            tally.tell(place, &Fault::of_field("user_id", found, allowed));
        }
    }
    tally.revoked += u64::from(session.revoked_at.is_some());
    Ok(())
}

impl Tally {
    fn tell(&mut self, place: Place, fault: &Fault) {
        self.faults += 1;
        if self.faults <= TOLD {
            let _ = writeln!(stderr(), "{place}: {fault}");
        }
    }
}
