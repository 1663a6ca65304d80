//! What is counted while requests are answered, for whoever reads `/metrics`.
//!
//! A counter that all workers wrote would go from core to core with every request and cost more than the request's
//! own work does. So each worker has a block of counters of its own, of one fixed layout and on cache lines of its
//! own, in which only that worker counts: a plain addition. Whoever reads adds the blocks up. A reading is no
//! snapshot of one moment, but no count is lost in it and none goes back.
//!
//! What is counted for all requests stands in [`Worker`]; what is counted for one API key in [`KeyUses`], which the
//! key carries and a reload hands on to the key of the same name.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::time::Timestamp;

/// A number that one thread counts up and any thread may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more. Only the thread that the counter belongs to may call this: a second one could have its
    /// counts overwritten.
    pub fn add_one(&self) {
        // No locked instruction, because nobody else writes.
        self.0
            .store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
    pub reload: Reload,
}

impl Metrics {
    /// For a process whose configuration was read at `now`.
    pub fn new(workers: usize, now: Timestamp) -> Self {
        Self {
            workers: PerWorker::new(workers),
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
    pub refused: Refused,
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
    fn no_two_workers_share_a_cache_line() {
        let uses: PerWorker<KeyUses> = PerWorker::new(2);
        let [one, other] = [0, 1].map(|worker| std::ptr::from_ref(uses.of(worker)).addr());
        assert!(
            one.is_multiple_of(128) && one.abs_diff(other) >= 128,
            "{one} and {other}"
        );
    }
}
