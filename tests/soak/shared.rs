//! What the threads of a soak have in common: the users, where the server is, and what was seen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use rand::random_range;

use crate::clock::now;
use crate::model::Model;

/// The tenants; a user belongs to one of them.
const TENANTS: [&str; 3] = ["acme", "tnt_xyz789", "~"];

/// How many of a kind are told in full.
const TOLD: usize = 20;

/// How long after a file has been replaced an error may still come of it.
const GRACE: u64 = 500_000_000;

pub(crate) struct Shared {
    pub(crate) model: Model,
    pub(crate) address: String,
    pub(crate) database: PathBuf,
    /// The key that callers send, which a reload changes.
    pub(crate) key: RwLock<String>,
    /// Who writes holds it shared, who puts another file in its place for itself.
    pub(crate) file: RwLock<()>,
    pub(crate) over: AtomicBool,
    /// When the file was being replaced, so that an answer may be an error.
    replacements: Mutex<Vec<(u64, Option<u64>)>>,
    statuses: Mutex<BTreeMap<String, u64>>,
    faults: Mutex<Faults>,
    pub(crate) counts: Counts,
}

/// What was done.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) commits: AtomicU64,
    pub(crate) judged: AtomicU64,
    pub(crate) excused: AtomicU64,
    pub(crate) writers_killed: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) commands_killed: AtomicU64,
    pub(crate) renames: AtomicU64,
    pub(crate) restores: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) reconnected: AtomicU64,
}

#[derive(Default)]
struct Faults {
    count: u64,
    told: Vec<String>,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    pub(crate) fn new(users: usize, address: String, database: PathBuf, key: String) -> Self {
        Self {
            model: Model::new(users),
            address,
            database,
            key: RwLock::new(key),
            file: RwLock::default(),
            over: AtomicBool::new(false),
            replacements: Mutex::default(),
            statuses: Mutex::default(),
            faults: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sleeps, but not beyond the end.
    pub(crate) fn sleep(&self, span: Duration) {
        let end = now() + u64::try_from(span.as_nanos()).unwrap();
        while !self.is_over() && now() < end {
            let rest = Duration::from_nanos(end.saturating_sub(now()));
            std::thread::sleep(rest.min(Duration::from_millis(100)));
        }
    }

    pub(crate) fn seen(&self, what: &str) {
        *self
            .statuses
            .lock()
            .unwrap()
            .entry(what.to_owned())
            .or_default() += 1;
    }

    pub(crate) fn statuses(&self) -> BTreeMap<String, u64> {
        self.statuses.lock().unwrap().clone()
    }

    /// Something that must not be.
    pub(crate) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap();
        faults.count += 1;
        if faults.told.len() < TOLD {
            faults.told.push(what);
        }
    }

    /// How much there was that must not be, and the first of it.
    pub(crate) fn faults(&self) -> (u64, Vec<String>) {
        let faults = self.faults.lock().unwrap();
        (faults.count, faults.told.clone())
    }

    /// Runs what replaces the file.
    pub(crate) fn replace<T>(&self, work: impl FnOnce() -> T) -> T {
        self.replacements.lock().unwrap().push((now(), None));
        let outcome = work();
        self.replacements.lock().unwrap().last_mut().unwrap().1 = Some(now() + GRACE);
        outcome
    }

    /// Whether the file was being replaced at some moment of these.
    pub(crate) fn is_replacing(&self, sent: u64, received: u64) -> bool {
        let replacements = self.replacements.lock().unwrap();
        let overlaps = |(begun, end): &(u64, Option<u64>)| {
            *begun <= received && end.is_none_or(|end| sent <= end)
        };
        replacements.iter().rev().take(4).any(overlaps)
    }
}

pub(crate) fn tenant(user: usize) -> &'static str {
    TENANTS[user % TENANTS.len()]
}

/// A name that has to be encoded.
pub(crate) fn name(user: usize) -> String {
    format!("usr/{user} %2F é")
}

/// Whether something happens that does so once in `times`.
pub(crate) fn once_in(times: u32) -> bool {
    random_range(0..times) == 0
}
