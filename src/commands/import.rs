//! `sessile import`: sessions from elsewhere into the data file.

mod bar;
mod feed;
mod job;
mod parts;
mod skipped;
mod tally;

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::bar::Bar;
use self::feed::{Feed, Source};
use self::job::{How, Job, Plan};
use self::parts::{Earlier, Parts};
use self::skipped::{Existing, Skipped};
use self::tally::Summary;
use super::{Done, is_same_file, load, say};
use crate::cli;
use crate::exchange::{Followed, Format, Names, Settings};
use crate::store::Writer;
use crate::time::Timestamp;

pub(super) fn run(args: &cli::Import) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let stop = Arc::new(AtomicBool::new(false));
    // A named pipe that nobody writes to is waited for here, and a signal ends that as it ends any program.
    let source = open(args, &stop)?;
    stop_on_signals(&stop)?;
    let names = Names::with(&args.map)
        .map_err(anyhow::Error::msg)
        .context("--map")?;
    if args.at.is_some_and(|at| at < Timestamp::from_millis(0)) {
        bail!(
            "found --at {}; allowed: an instant from the year 1970 on, as in the data file",
            args.at.unwrap_or_else(Timestamp::now)
        );
    }

    let mut writer = Writer::open(&path)?;
    let import = writer.import()?;
    let parts = if args.follow {
        Parts::none()
    } else {
        Parts::new(&import, &args.input, args.batch.is_some(), earlier(args))?
    };
    let plan = Plan {
        how: match args.batch {
            _ if args.follow => How::Followed,
            Some(size) => How::Parts(size),
            None => How::Whole,
        },
        now: parts
            .started_at()
            .or(args.at)
            .unwrap_or_else(Timestamp::now),
        dry_run: args.dry_run,
        force: args.force,
        snapshot: args.replace_tenant.clone(),
        tenant: args.tenant.clone().or_else(|| args.replace_tenant.clone()),
    };
    let settings = Settings {
        format: args.format,
        names,
        tenant: plan.tenant.clone(),
        keep_raw: args.skip_bad.is_some(),
        following: args.follow.then(|| Arc::clone(&stop)),
        ..Settings::at(plan.now)
    };
    let skipped = skipped(args, &path, &parts)?;
    let done_before = parts.resumed_after().unwrap_or_default();
    let feed = Feed::start(source, settings).context("can't start a thread")?;
    let mut job = Job::new(plan, import, parts);
    job.skipped = skipped;
    if !args.follow && !args.output.json {
        job.bar = Bar::new(size(&args.input));
    }
    let tally = job.run(&feed, &|| stop.load(Ordering::Relaxed))?;
    let summary = Summary::new(
        &tally,
        &path,
        args.dry_run,
        args.skip_bad.as_deref(),
        done_before,
    );
    say(&args.output, &summary, |out| summary.write(out))?;
    Ok(Done::Yes)
}

/// Takes `sessions` whole, for a command that has them itself.
pub(super) fn import(
    writer: &mut Writer,
    sessions: &'static [u8],
    now: Timestamp,
) -> anyhow::Result<()> {
    let feed = Feed::start(Source::Whole(Box::new(sessions)), Settings::at(now))?;
    let plan = Plan {
        how: How::Whole,
        now,
        dry_run: false,
        force: false,
        snapshot: None,
        tenant: None,
    };
    let job = Job::new(plan, writer.import()?, Parts::none());
    job.run(&feed, &|| false).map(|_| ())
}

/// What the first SIGTERM or SIGINT sets. The second ends the program at once.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 2, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .context("can't listen to signals")?;
    }
    Ok(())
}

fn is_standard_input(input: &Path) -> bool {
    input == Path::new("-")
}

fn open(args: &cli::Import, stop: &Arc<AtomicBool>) -> anyhow::Result<Source> {
    let input = args.input.as_path();
    let unreadable = || format!("can't read {}", input.display());
    if args.follow {
        if args.format == Some(Format::Upstream) {
            bail!("found --follow for an export; allowed: NDJSON and CSV, of which more may come");
        }
        let followed = if is_standard_input(input) {
            Followed::stdin(Arc::clone(stop))
        } else {
            Followed::open(input, Arc::clone(stop))
        };
        return followed.map(Source::Followed).with_context(unreadable);
    }
    let input: Box<dyn Read + Send> = if is_standard_input(input) {
        Box::new(stdin())
    } else {
        Box::new(File::open(input).with_context(unreadable)?)
    };
    Ok(Source::Whole(input))
}

/// The size of an input that has one.
fn size(input: &Path) -> Option<u64> {
    let file = std::fs::metadata(input).ok()?;
    file.is_file().then_some(file.len())
}

fn earlier(args: &cli::Import) -> Earlier {
    match (args.resume, args.restart) {
        (true, _) => Earlier::Resume,
        (_, true) => Earlier::Restart,
        _ => Earlier::Refuse,
    }
}

fn skipped(args: &cli::Import, database: &Path, parts: &Parts) -> anyhow::Result<Option<Skipped>> {
    let Some(path) = &args.skip_bad else {
        return Ok(None);
    };
    for (other, what) in [(database, "data file"), (&args.input, "input")] {
        if is_same_file(path, other) {
            bail!("found the {what} itself as --skip-bad; allowed: another file");
        }
    }
    let existing = if args.follow {
        Existing::Append
    } else if parts.had_begun() {
        Existing::Overwrite
    } else {
        Existing::Refuse
    };
    Skipped::open(path, existing).map(Some)
}
