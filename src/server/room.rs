//! The places of one worker, and who goes when they are all taken: the connection whose caller has been waited for
//! longest. A server that turned new callers away instead could be filled by a handful of slow ones.
//!
//! A connection's wait begins anew with every request, and nothing is done here then. What is kept is each
//! connection with the beginning of its wait *as it was when it was looked at last*, which the true one is never
//! before. So the earliest of them is looked at: if it is still true, that connection has waited longest; if not, it
//! is put back with the true one. Each look is paid for by a request that came since the last.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::waiting::{Waiting, millis};

/// How often the log is told that places run out.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The connections of one worker.
pub(super) struct Room {
    /// How many there may be.
    most: usize,
    clock: Instant,
    connections: BinaryHeap<Reverse<Connection>>,
    evicted: usize,
    refused: usize,
    told: Option<Instant>,
}

struct Connection {
    /// Since when its caller was waited for when it was looked at last.
    since: u64,
    waiting: Arc<Waiting>,
    task: AbortHandle,
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            clock: Instant::now(),
            connections: BinaryHeap::new(),
            evicted: 0,
            refused: 0,
            told: None,
        }
    }

    /// What the waits of these connections are counted from.
    pub(super) fn clock(&self) -> Instant {
        self.clock
    }

    /// Makes room, where `open` with the newest are too many; `false` where none of the others waits for its caller.
    pub(super) fn make(&mut self, open: usize) -> bool {
        if open <= self.most {
            return true;
        }
        let is_made = self.evict();
        match is_made {
            true => self.evicted += 1,
            false => self.refused += 1,
        }
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            tracing::warn!(
                evicted = self.evicted,
                refused = self.refused,
                "server.max_connections are open: connections that wait for a caller are closed for new ones"
            );
            self.told = Some(Instant::now());
            (self.evicted, self.refused) = (0, 0);
        }
        is_made
    }

    fn evict(&mut self) -> bool {
        let now = millis(self.clock.elapsed());
        while let Some(mut first) = self.connections.peek_mut() {
            let Reverse(connection) = &mut *first;
            if connection.waiting.has_left() {
                PeekMut::pop(first);
                continue;
            }
            if connection.since >= now {
                return false;
            }
            // One with a request under way is looked at again after all that were waiting by now.
            let since = connection.waiting.caller_since().unwrap_or(now);
            if since <= connection.since {
                let Reverse(connection) = PeekMut::pop(first);
                connection.waiting.leave();
                // It is dropped before it runs again: no request of it can come under way until then.
                connection.task.abort();
                return true;
            }
            connection.since = since;
        }
        false
    }

    /// Takes a new connection in, one of `open`.
    pub(super) fn add(&mut self, waiting: Arc<Waiting>, task: AbortHandle, open: usize) {
        // Those that have ended are thrown out when they are the greater part, which costs each of them its share.
        if self.connections.len() > 2 * open + 64 {
            self.connections
                .retain(|Reverse(connection)| !connection.waiting.has_left());
        }
        self.connections.push(Reverse(Connection {
            since: waiting.caller_since().unwrap_or(0),
            waiting,
            task,
        }));
    }
}

impl Ord for Connection {
    fn cmp(&self, other: &Self) -> Ordering {
        self.since.cmp(&other.since)
    }
}

impl PartialOrd for Connection {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Connection {}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.since == other.since
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    type Open = (Arc<Waiting>, tokio::task::JoinHandle<()>);

    /// A room with `most` connections, each with a request under way, and those connections.
    fn full(most: usize) -> (Room, Arc<AtomicUsize>, Vec<Open>) {
        let (mut room, taken) = (Room::new(most), Arc::new(AtomicUsize::new(0)));
        // It has been there for some time, so that there are instants before now.
        room.clock -= Duration::from_secs(100);
        let connections = (1..=most).map(|open| {
            taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let waiting = Arc::new(Waiting::new(room.clock(), Arc::clone(&taken)));
            waiting.expect(room.clock());
            let task = tokio::spawn(pending());
            room.add(Arc::clone(&waiting), task.abort_handle(), open);
            waiting.expect_nothing();
            (waiting, task)
        });
        let connections = connections.collect();
        (room, taken, connections)
    }

    fn in_runtime(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn who_was_waited_for_longest_goes_first() {
        in_runtime(async {
            let (mut room, taken, connections) = full(5);
            let start = room.clock();
            for (index, second) in [(0, 30), (1, 10), (3, 40), (4, 20)] {
                connections[index]
                    .0
                    .expect(start + Duration::from_secs(second));
            }
            // It asks again, and what was known of it is out of date.
            connections[1].0.expect(start + Duration::from_secs(50));
            assert!(room.make(5), "there is room");
            for (gone, next) in [4, 0, 3, 1].into_iter().enumerate() {
                assert!(room.make(6));
                let left: Vec<bool> = connections
                    .iter()
                    .map(|(waiting, _)| waiting.has_left())
                    .collect();
                assert!(left[next], "{next} is not the one of {left:?}");
                assert_eq!(left.iter().filter(|left| **left).count(), gone + 1);
                assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 4 - gone);
            }
            assert!(!room.make(6), "one with a request under way was closed");
            connections[2].0.expect(Instant::now());
            std::thread::sleep(Duration::from_millis(2)); // past the instant of the last look
            assert!(room.make(6), "it waits now");
            for (index, (_, task)) in connections.into_iter().enumerate() {
                assert!(task.await.unwrap_err().is_cancelled(), "{index}");
            }
        });
    }

    #[test]
    fn connections_that_have_ended_are_not_kept() {
        in_runtime(async {
            let (mut room, _, connections) = full(1_000);
            for (waiting, _) in &connections[10..] {
                waiting.leave();
            }
            let waiting = Arc::clone(&connections[0].0);
            room.add(waiting, tokio::spawn(pending::<()>()).abort_handle(), 11);
            assert_eq!(room.connections.len(), 11);
        });
    }
}
