//! `sessile heartbeat`: the time, written into the data file once or again and again.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Done, load, say, warn};
use crate::cli::Heartbeat;
use crate::store::{StoreError, Writer};
use crate::time::Timestamp;

#[derive(Serialize)]
struct Found<'p> {
    database: &'p Path,
    heartbeat_at: String,
}

pub(super) fn run(args: &Heartbeat) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let stopped = args.every.map(|_| signals()).transpose()?;
    let at = beat(&path)?;
    let found = Found {
        database: &path,
        heartbeat_at: at.to_string(),
    };
    say(&args.output, &found, |out| match args.every {
        None => writeln!(out, "wrote the heartbeat {at} into {}", path.display()),
        Some(every) => writeln!(
            out,
            "writing a heartbeat every {every} into {}, the first at {at}",
            path.display()
        ),
    })?;
    if let (Some(every), Some(stopped)) = (args.every, stopped) {
        go_on(
            &path,
            Duration::from_millis(every.as_millis().unsigned_abs()),
            &stopped,
        );
    }
    Ok(Done::Yes)
}

/// The file is opened anew each time: it may have been replaced.
fn beat(path: &Path) -> Result<Timestamp, StoreError> {
    Writer::open(path)?.beat()
}

/// Beats until a signal comes. What keeps a heartbeat from being written may pass, so it is told, once, and no end.
fn go_on(path: &Path, every: Duration, stopped: &Receiver<()>) {
    let mut trouble = None;
    let mut due = Instant::now() + every;
    loop {
        let pause = due.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let now = match beat(path) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        match (&trouble, &now) {
            (before, Some(error)) if *before != now => warn(&format!("no heartbeat: {error}")),
            (Some(_), None) => warn("heartbeats are written again"),
            _ => {}
        }
        trouble = now;
        // A heartbeat that came late is not made up for.
        due = (due + every).max(Instant::now());
    }
}

/// Says so once SIGTERM or SIGINT has come.
fn signals() -> anyhow::Result<Receiver<()>> {
    let (sender, stopped) = channel();
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("can't listen to signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                let _ = sender.send(());
            }
        })?;
    Ok(stopped)
}
