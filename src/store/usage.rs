//! What is counted of a [`Reader`](super::Reader) for those who watch the server.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::Counter;

/// How much of the pool is in use, and how often what it reads was opened anew.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// How many connections there may be.
    pub connections: u32,
    /// How many are in use, those that the workers keep among them.
    pub in_use: u32,
    /// How many counts wait for one.
    pub waiting: usize,
    /// How many snapshots the workers have opened.
    pub snapshots: u64,
    /// How often the file was opened anew.
    pub reopened: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// How often each worker opened a snapshot.
    snapshots: Mutex<Vec<Arc<Counter>>>,
    waiting: AtomicUsize,
    reopened: AtomicU64,
}

/// A count that waits for a connection, until this is dropped.
pub(super) struct Waiting<'w>(&'w AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// What one more worker counts its snapshots by.
    pub(super) fn snapshots(&self) -> Arc<Counter> {
        let counter = Arc::new(Counter::default());
        let mut snapshots = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        snapshots.push(Arc::clone(&counter));
        counter
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    pub(super) fn reopened(&self) {
        self.reopened.fetch_add(1, Ordering::Relaxed);
    }

    /// Of a pool of so many connections, of which so many are free.
    pub(super) fn usage(&self, connections: u32, free: usize) -> Usage {
        let snapshots = self
            .snapshots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        Usage {
            connections,
            in_use: connections.saturating_sub(free),
            waiting: self.waiting.load(Ordering::Relaxed),
            snapshots: snapshots.iter().map(|counter| counter.get()).sum(),
            reopened: self.reopened.load(Ordering::Relaxed),
        }
    }
}
