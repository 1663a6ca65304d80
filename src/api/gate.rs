//! How many requests are under way, and no more than that.
//!
//! One counter for all would go from core to core with every request, and cost each more than its count does. So
//! each worker has a counter of its own and a share of the places. While every worker keeps to its share, all of
//! them together keep to the limit, and none looks at the others; only one that goes beyond adds all counters up,
//! and as long as anybody is beyond, everybody does.

use std::borrow::Borrow;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit of requests under way, over all workers.
pub(super) struct Gate {
    most: usize,
    /// What a worker may have without a look at the others.
    share: usize,
    counters: Box<[Counter]>,
    /// How many requests are under way beyond their workers' shares.
    beyond: AtomicUsize,
}

/// Alone on its cache lines: two, because processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

/// A request under way, counted until it is dropped.
pub(super) struct Pass<G: Borrow<Gate>> {
    gate: G,
    worker: usize,
    is_beyond: bool,
}

impl Gate {
    pub(super) fn new(most: usize, workers: usize) -> Self {
        Self {
            most,
            share: most / workers.max(1),
            counters: (0..workers).map(|_| Counter::default()).collect(),
            beyond: AtomicUsize::new(0),
        }
    }

    /// A place for one request of this worker, or `None` where `most` are under way.
    pub(super) fn enter(&self, worker: usize) -> Option<Pass<&Self>> {
        // All orderings are SeqCst, so that of two workers, one that goes beyond its share and one that does not look,
        // at least one sees the other.
        let own = &self.counters[worker].0;
        let is_beyond = own.fetch_add(1, Ordering::SeqCst) >= self.share;
        let pass = Pass {
            gate: self,
            worker,
            is_beyond,
        };
        if is_beyond {
            self.beyond.fetch_add(1, Ordering::SeqCst);
        }
        let is_free = self.beyond.load(Ordering::SeqCst) == 0 || self.under_way() <= self.most;
        is_free.then_some(pass)
    }

    /// How many requests there may be under way.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn under_way(&self) -> usize {
        self.counters
            .iter()
            .map(|counter| counter.0.load(Ordering::SeqCst))
            .sum()
    }
}

impl Pass<&Gate> {
    /// The same place, for a request that outlives the borrow. `gate` is the one that was entered.
    pub(super) fn kept(self, gate: Arc<Gate>) -> Pass<Arc<Gate>> {
        let entered = ManuallyDrop::new(self);
        Pass {
            gate,
            worker: entered.worker,
            is_beyond: entered.is_beyond,
        }
    }
}

impl<G: Borrow<Gate>> Drop for Pass<G> {
    fn drop(&mut self) {
        let gate = self.gate.borrow();
        gate.counters[self.worker].0.fetch_sub(1, Ordering::SeqCst);
        if self.is_beyond {
            gate.beyond.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_may_take_all_places_and_then_nobody_gets_one() {
        for (most, workers) in [(1, 1), (1, 2), (2, 3), (7, 2), (8, 4), (1024, 2)] {
            let gate = Gate::new(most, workers);
            let mut passes: Vec<_> = (0..most).map(|_| gate.enter(0).unwrap()).collect();
            for worker in 0..workers {
                assert!(
                    gate.enter(worker).is_none(),
                    "{most} places, {workers} workers"
                );
            }
            passes.pop();
            let last = gate.enter(workers - 1);
            assert!(last.is_some() && gate.enter(0).is_none());
            drop((passes, last));
            assert_eq!(
                (gate.under_way(), gate.beyond.load(Ordering::SeqCst)),
                (0, 0)
            );
        }
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let (gate, inside, most_seen) = (Gate::new(5, 4), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (gate, inside, most_seen) = (&gate, &inside, &most_seen);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let passes: Vec<_> = (0..3).map_while(|_| gate.enter(worker)).collect();
                        let now = inside.fetch_add(passes.len(), Ordering::SeqCst) + passes.len();
                        most_seen.fetch_max(now, Ordering::SeqCst);
                        inside.fetch_sub(passes.len(), Ordering::SeqCst);
                    }
                });
            }
        });
        let most_seen = most_seen.load(Ordering::SeqCst);
        assert!((3..=5).contains(&most_seen), "{most_seen}");
    }
}
