//! The check of the sessions in the background: damage that no count meets.
//!
//! A page that holds the contents of another looks sound to whoever reads it, and counts come out wrong without an
//! error. Only SQLite's `integrity_check` compares the table with its indexes. It is run for the table `session` alone,
//! since other tables are their owners' business and `sessile doctor` looks at them too, and it costs little enough
//! to be run beside callers and writers:
//!
//! - *The processor.* It works for [`WORK`] and then rests for [`PAUSE`], so that it takes a third of one core at the
//!   most. (A lower priority would need system calls that a service manager's filter may well forbid.)
//! - *Memory.* It has a connection of its own with a small page cache.
//! - *The WAL.* All of it is one read transaction, which SQLite can't do in parts, so the WAL can't begin anew
//!   meanwhile. Once it has grown by [`HURRY`], the check rests no more: a writer in a hurry is helped most by an
//!   early end. Once it has grown by [`Bounds::wal`], or after [`MOST_TIME`], the check is given up, and says so.
//! - *A file that has changed.* Connections of one process share what they know of a file, so whoever opens it anew
//!   has this one closed first. Then the check begins again soon.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use super::backup::{check_sessions, companions, with_suffix};
use super::place::{Identity, Place};
use super::reader::{Reader, prepare, read_only};
use super::{FileFault, schema};
use crate::time::Timestamp;

/// How long the check works without a rest, and how long it then rests.
const WORK: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(10);

/// After how many steps of SQLite's virtual machine, or pages of a tree, it is looked whether it is time to rest:
/// every tenth of a millisecond or so.
const STEPS: i32 = 1_000;

/// The page cache of the check, in kibibytes.
const CACHE: i64 = 1_024;

/// The growth of the WAL, in bytes, from which on the check hurries.
const HURRY: u64 = 16 << 20;

/// The least growth of the WAL, in bytes, for which the check is given up. For a large file it is a tenth of its size,
/// which a writer of 1,000 commits a second fills in about the time that the check takes without a rest.
const LEAST_WAL: u64 = 64 << 20;

/// How long a check may take: programs that wait until no reader uses the WAL, such as `sessile delete`, wait for it.
const MOST_TIME: Duration = Duration::from_secs(600);

/// How often is looked whether the file is another, or, after damage was found, whether it was written.
const PERIOD: Duration = Duration::from_secs(1);

/// After how long a check is tried again that could not be made.
const RETRY: Duration = Duration::from_secs(60);

/// A check that is not due yet, but called for by a change, waits for this many times as long as the last one took.
const REST: u32 = 10;

/// What is known of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No check has come to an end.
    Unchecked,
    Sound,
    Damaged,
}

/// What the checks have found so far.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub verdict: Verdict,
    /// When the check ended that came to the verdict, and how long it took.
    pub at: Option<Timestamp>,
    pub took: Duration,
    /// How many checks were given up, for the WAL's growth or for time, since that one.
    pub given_up: u32,
    /// Whether checks are made at all.
    pub is_on: bool,
}

/// What the check and the readers of the same file know of each other.
pub(super) struct Inspection {
    report: Mutex<Report>,
    /// Locked while the check has a connection open.
    open: Mutex<()>,
    /// How many wait for it to be closed.
    unwanted: AtomicU32,
    /// How often the file was opened anew.
    openings: AtomicU64,
    /// Whether a count met damage since the last check.
    met_damage: AtomicBool,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            report: Mutex::new(Report {
                verdict: Verdict::Unchecked,
                at: None,
                took: Duration::ZERO,
                given_up: 0,
                is_on: false,
            }),
            open: Mutex::default(),
            unwanted: AtomicU32::new(0),
            openings: AtomicU64::new(0),
            met_damage: AtomicBool::new(false),
        }
    }
}

impl Inspection {
    pub(super) fn report(&self) -> Report {
        let mut report = *self.lock_report();
        if report.is_on && self.met_damage.load(Ordering::Relaxed) {
            report.verdict = Verdict::Damaged;
        }
        report
    }

    /// A count met damage: until a check finds none, there is some.
    pub(super) fn met_damage(&self) {
        self.met_damage.store(true, Ordering::Relaxed);
    }

    fn lock_report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a check that is under way, and lets none begin before the guard is dropped.
    pub(super) fn close(&self) -> MutexGuard<'_, ()> {
        self.unwanted.fetch_add(1, Ordering::Relaxed);
        let closed = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.unwanted.fetch_sub(1, Ordering::Relaxed);
        closed
    }

    /// The file was opened anew: what was known of it is to be found out again.
    pub(super) fn opened_anew(&self) {
        self.openings.fetch_add(1, Ordering::Relaxed);
    }
}

/// The checks of one file, until this is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl Watch {
    /// Checks the file of `reader` now, every `interval`, and soon after it was replaced, or, where it was damaged,
    /// mended; on a thread of its own.
    pub fn start(reader: &Reader, interval: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let checks = Checks {
            reader: reader.clone(),
            interval,
            stop: Arc::clone(&stop),
        };
        checks.reader.inspection().lock_report().is_on = true;
        let thread = thread::Builder::new()
            .name("integrity".to_owned())
            .spawn(move || checks.run())?;
        Ok(Self {
            stop,
            thread: thread.thread().clone(),
        })
    }
}

impl Drop for Watch {
    /// The thread is not waited for: it may be waiting for a disk, and it leaves nothing half done.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

struct Checks {
    reader: Reader,
    interval: Duration,
    stop: Arc<AtomicBool>,
}

/// How a check ended.
enum Outcome {
    Sound,
    Damaged(FileFault),
    /// With the reason.
    GivenUp(&'static str),
    /// The file could not be looked at, which is told by whoever counts in it, or is about to be opened anew.
    NotDone,
}

/// What the file was like when a check began.
#[derive(PartialEq, Eq)]
struct Seen {
    openings: u64,
    identity: Identity,
    written: [Option<(u64, SystemTime)>; 2],
}

impl Checks {
    fn run(&self) {
        while !self.is_stopped() {
            let (before, began) = (self.seen(), Instant::now());
            let outcome = self.check();
            let took = began.elapsed();
            let is_settled = matches!(outcome, Outcome::Sound | Outcome::Damaged(_));
            if is_settled && !before.is_same_file(&self.seen()) {
                // What was found may be of both files.
                self.wait(&before, PERIOD, PERIOD);
                continue;
            }
            let due = match outcome {
                Outcome::NotDone => self.interval.min(RETRY),
                _ => self.interval,
            };
            self.note(outcome, took);
            self.wait(&before, due, (took * REST).max(PERIOD));
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits until the next check is due, or, after `rest`, until the file is no longer what it was `before`.
    fn wait(&self, before: &Seen, due: Duration, rest: Duration) {
        let began = Instant::now();
        loop {
            thread::park_timeout(PERIOD.min(due.saturating_sub(began.elapsed())));
            if self.is_stopped() || began.elapsed() >= due {
                return;
            }
            if began.elapsed() >= rest {
                let now = self.seen();
                let is_damaged = self.inspection().report().verdict == Verdict::Damaged;
                if !before.is_same_file(&now) || (is_damaged && *before != now) {
                    return;
                }
            }
        }
    }

    fn inspection(&self) -> &Inspection {
        self.reader.inspection()
    }

    fn place(&self) -> &Place {
        self.reader.place()
    }

    fn seen(&self) -> Seen {
        let path = self.place().path();
        let written = [path.to_owned(), wal(path)].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.len(), file.modified().ok()?))
        });
        Seen {
            openings: self.inspection().openings.load(Ordering::Relaxed),
            identity: self.place().identity(),
            written,
        }
    }

    fn check(&self) -> Outcome {
        let why = Arc::new(AtomicU8::new(0));
        match self.try_check(&why) {
            Ok(()) => Outcome::Sound,
            Err(_) if why.load(Ordering::Relaxed) == Why::WalGrew as u8 => {
                Outcome::GivenUp("the WAL grew too long meanwhile")
            }
            Err(_) if why.load(Ordering::Relaxed) == Why::TooLong as u8 => {
                Outcome::GivenUp("it took longer than 10 minutes")
            }
            Err(fault) if fault.is_damage() => Outcome::Damaged(fault),
            Err(error) => {
                tracing::debug!(%error, "the data file was not checked");
                Outcome::NotDone
            }
        }
    }

    fn try_check(&self, why: &Arc<AtomicU8>) -> Result<(), FileFault> {
        let inspection = self.inspection();
        let _open = inspection
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let path = self.place().path();
        if !path.try_exists()? {
            return Err(FileFault::Missing);
        }
        let connection = Connection::open_with_flags(path, read_only())?;
        prepare(&connection)?;
        connection.pragma_update(None, "cache_size", -CACHE)?;
        let mut pace = Pace {
            reader: self.reader.clone(),
            stop: Arc::clone(&self.stop),
            why: Arc::clone(why),
            bounds: Bounds::of(path),
            began: Instant::now(),
            slice: Instant::now(),
        };
        connection.progress_handler(STEPS, Some(move || pace.is_over()))?;
        schema::verify(&connection)?;
        check_sessions(&connection)
    }

    /// Keeps what was found, and tells of it once.
    fn note(&self, outcome: Outcome, took: Duration) {
        let path = self.place().path();
        let mut report = self.inspection().lock_report();
        let before = report.verdict;
        let verdict = match outcome {
            Outcome::Sound => Verdict::Sound,
            Outcome::Damaged(fault) => {
                if before != Verdict::Damaged {
                    let error = fault.at(path);
                    tracing::error!(%error, "the data file is damaged, and answers may be wrong");
                }
                Verdict::Damaged
            }
            Outcome::GivenUp(why) => {
                report.given_up += 1;
                tracing::warn!(
                    database.path = %path.display(),
                    "the check of the data file was given up: {why}; `sessile backup` makes a checked copy"
                );
                return;
            }
            Outcome::NotDone => return,
        };
        if (before, verdict) == (Verdict::Damaged, Verdict::Sound) {
            tracing::info!(database.path = %path.display(), "the data file is sound again");
        }
        self.inspection().met_damage.store(false, Ordering::Relaxed);
        *report = Report {
            verdict,
            at: Some(Timestamp::now()),
            took,
            given_up: 0,
            is_on: true,
        };
    }
}

impl Seen {
    /// Whether it still is the file that it was, whatever was written to it by SQLite.
    fn is_same_file(&self, now: &Self) -> bool {
        self.openings == now.openings && self.identity.is_same_file(&now.identity)
    }
}

/// Why a check ended early.
#[derive(Clone, Copy)]
enum Why {
    NotWanted = 1,
    WalGrew,
    TooLong,
}

/// When a check rests, and when it is over.
struct Pace {
    reader: Reader,
    stop: Arc<AtomicBool>,
    why: Arc<AtomicU8>,
    bounds: Bounds,
    began: Instant,
    /// When it last came from a rest.
    slice: Instant,
}

impl Pace {
    fn is_over(&mut self) -> bool {
        let is_wanted = || {
            !self.stop.load(Ordering::Relaxed)
                && self.reader.inspection().unwanted.load(Ordering::Relaxed) == 0
        };
        if is_wanted() && self.slice.elapsed() < WORK {
            return false;
        }
        let grown = self.bounds.grown();
        let why = if !is_wanted() {
            Why::NotWanted
        } else if grown > self.bounds.most {
            Why::WalGrew
        } else if self.began.elapsed() > MOST_TIME {
            Why::TooLong
        } else {
            if grown < HURRY {
                thread::sleep(PAUSE);
            }
            self.slice = Instant::now();
            return false;
        };
        self.why.store(why as u8, Ordering::Relaxed);
        true
    }
}

/// How far the WAL may grow.
struct Bounds {
    wal: PathBuf,
    /// Its length at the beginning. What is written over does not make it longer, and takes no more of the disk.
    before: u64,
    most: u64,
}

impl Bounds {
    fn of(path: &Path) -> Self {
        let wal = wal(path);
        Self {
            before: length(&wal),
            most: (length(path) / 10).max(LEAST_WAL),
            wal,
        }
    }

    fn grown(&self) -> u64 {
        length(&self.wal).saturating_sub(self.before)
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// The WAL of the file.
fn wal(path: &Path) -> PathBuf {
    companions(path)
        .next()
        .unwrap_or_else(|| with_suffix(path, "-wal"))
}
