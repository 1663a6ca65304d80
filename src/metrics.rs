//! What is counted while requests are answered, for whoever reads `/metrics`.
//!
//! A counter that all workers wrote would go from core to core with every request and cost more than the request's
//! own work does. So each worker has a block of counters of its own, of one fixed layout and on cache lines of its
//! own, in which only that worker counts: a plain addition. Whoever reads adds the blocks up. A reading is no
//! snapshot of one moment, but no count is lost in it and none goes back.
//!
//! What is counted for all requests stands in [`Worker`]; what is counted for one API key in [`KeyUses`], which the
//! key carries and a reload hands on to the key of the same name; what is counted of connections in [`Connections`].

mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Timestamp;
pub use times::{Distribution, Times};

/// How many routes there may be. What they are is not known here: they are numbers.
pub const ROUTES: usize = 16;

/// The statuses that responses are counted by; any other is counted behind them.
pub const STATUSES: [u16; 16] = [
    200, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 414, 429, 431, 500, 503,
];

/// Where each status is counted, so that none has to be searched for.
const PLACES: [u8; 600] = {
    let mut places = [STATUSES.len() as u8; 600];
    let mut place = 0;
    while place < STATUSES.len() {
        places[STATUSES[place] as usize] = place as u8;
        place += 1;
    }
    places
};

/// A number that one thread counts up and any thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more. Only the thread that the counter belongs to may call this: a second one could have its
    /// counts overwritten.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Counts `more`, wrapping around; the same rule holds.
    pub fn add(&self, more: u64) {
        // No locked instruction, because nobody else writes.
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A block for each worker.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Apart<T>]>);

/// Alone on its cache lines: two, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> PerWorker<T> {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Apart::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// The block of the worker `number`, for it to count in.
    pub fn of(&self, number: usize) -> &T {
        &self.0[number].0
    }

    /// The sum over all workers.
    pub fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.0.iter().map(|block| counter(&block.0).get()).sum()
    }
}

/// All counts of this process but those that API keys carry.
#[derive(Debug)]
pub struct Metrics {
    pub workers: PerWorker<Worker>,
    pub connections: Arc<Connections>,
    pub reload: Reload,
    pub started_at: Timestamp,
}

impl Metrics {
    /// For a process that starts, and whose configuration was read, at `now`.
    pub fn new(workers: usize, now: Timestamp) -> Self {
        Self {
            workers: PerWorker::new(workers),
            connections: Arc::default(),
            started_at: now,
            reload: Reload {
                is_successful: AtomicBool::new(true),
                succeeded_at: AtomicI64::new(now.as_millis()),
            },
        }
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct Worker {
    pub requests: [Requests; ROUTES],
    /// Counts that the worker made itself.
    pub counted_at_once: Times,
    /// Counts that were made on another thread, with the wait for a connection.
    pub counted_later: Times,
    pub refused: Refused,
}

/// The requests of one route.
#[derive(Debug, Default)]
pub struct Requests {
    /// By the places of [`STATUSES`], and one more.
    statuses: [Counter; STATUSES.len() + 1],
    pub times: Times,
}

impl Requests {
    pub fn count(&self, status: u16, took: Duration) {
        let place = PLACES.get(usize::from(status)).copied();
        self.by_place(place.map_or(STATUSES.len(), usize::from))
            .add_one();
        self.times.count(took);
    }

    /// The requests with the status at this place of [`STATUSES`], or, behind its end, with any other.
    pub fn by_place(&self, place: usize) -> &Counter {
        &self.statuses[place]
    }
}

/// What is counted of connections: seldom, beside requests, so that all threads may share it.
#[derive(Debug, Default)]
pub struct Connections {
    /// How many there may be.
    pub limit: AtomicU64,
    pub accepted: AtomicU64,
    pub ended: AtomicU64,
    /// Those that waited for their caller and were closed for a new one.
    pub evicted: AtomicU64,
    /// New ones that no other could be closed for.
    pub refused: AtomicU64,
}

impl Connections {
    pub fn open(&self) -> u64 {
        // In this order, so that none has ended that is not yet counted.
        let ended = self.ended.load(Ordering::Acquire);
        self.accepted.load(Ordering::Acquire).saturating_sub(ended)
    }
}

/// Requests without a key that is valid, by why.
#[derive(Debug, Default)]
pub struct Refused {
    pub missing: Counter,
    pub repeated: Counter,
    pub unknown: Counter,
    pub expired: Counter,
}

/// What one worker counts for one API key.
#[derive(Debug, Default)]
pub struct KeyUses {
    pub succeeded: Counter,
    /// Faults of the caller, those over its rate included.
    pub at_fault: Counter,
    /// Faults of this server.
    pub failed: Counter,
    /// Over the key's rate.
    pub limited: Counter,
}

impl KeyUses {
    /// Counts a request by the status of its response.
    pub fn count(&self, status: u16) {
        match status {
            200..300 => self.succeeded.add_one(),
            300..500 => self.at_fault.add_one(),
            _ => self.failed.add_one(),
        }
    }
}

/// How the configuration was read last. The start counts as a success.
#[derive(Debug)]
pub struct Reload {
    is_successful: AtomicBool,
    succeeded_at: AtomicI64,
}

impl Reload {
    pub fn succeeded(&self, now: Timestamp) {
        self.succeeded_at.store(now.as_millis(), Ordering::Relaxed);
        self.is_successful.store(true, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.is_successful.store(false, Ordering::Relaxed);
    }

    /// Whether the last attempt succeeded.
    pub fn is_successful(&self) -> bool {
        self.is_successful.load(Ordering::Relaxed)
    }

    /// When an attempt succeeded last.
    pub fn succeeded_at(&self) -> Timestamp {
        Timestamp::from_millis(self.succeeded_at.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workers_counts_are_in_the_sum() {
        let uses: PerWorker<KeyUses> = PerWorker::new(4);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let uses = uses.of(worker);
                scope.spawn(move || {
                    for status in [200, 200, 204, 400, 429, 500, 503] {
                        (0..1_000).for_each(|_| uses.count(status));
                    }
                });
            }
        });
        let sums = [
            uses.sum(|uses| &uses.succeeded),
            uses.sum(|uses| &uses.at_fault),
            uses.sum(|uses| &uses.failed),
            uses.sum(|uses| &uses.limited),
        ];
        assert_eq!(sums, [12_000, 8_000, 8_000, 0]);
    }

    #[test]
    fn each_status_has_a_place_and_unknown_ones_share_the_last() {
        let requests = Requests::default();
        for status in STATUSES.into_iter().chain([201, 599, 600, 999]) {
            requests.count(status, Duration::ZERO);
        }
        let counts: Vec<u64> = (0..=STATUSES.len())
            .map(|place| requests.by_place(place).get())
            .collect();
        assert_eq!(counts, [vec![1; STATUSES.len()], vec![4]].concat());
    }

    #[test]
    fn no_two_workers_share_a_cache_line() {
        let uses: PerWorker<KeyUses> = PerWorker::new(2);
        let [one, other] = [0, 1].map(|worker| std::ptr::from_ref(uses.of(worker)).addr());
        assert!(
            one.is_multiple_of(128) && one.abs_diff(other) >= 128,
            "{one} and {other}"
        );
    }
}
