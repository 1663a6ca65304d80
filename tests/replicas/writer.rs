//! The writer node: its server, its heartbeat and Litestream, and who uses them.

use std::fs;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::callers::{self, Callers};
use crate::clock::wall;
use crate::node::{Node, sizes};
use crate::process::Process;
use crate::seen::Seen;
use crate::shared::{Asked, Shared};
use crate::{data, login, oracle};

/// How long Litestream may take for its first snapshot.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Writer {
    pub(crate) node: Node,
    pub(crate) asked: Arc<Asked>,
    server: Process,
    beating: Process,
    replicating: Process,
}

/// Who uses the node.
pub(crate) struct Work<'s> {
    login: ScopedJoinHandle<'s, ()>,
    callers: Callers<'s>,
}

impl Work<'_> {
    pub(crate) fn join(self) -> Seen {
        self.login.join().unwrap();
        self.callers.join()
    }
}

/// When the writer node was killed, by both clocks, and how many commits were done.
#[derive(Clone, Copy)]
pub(crate) struct Killed {
    pub(crate) at: Instant,
    pub(crate) wall: i64,
    pub(crate) done: u64,
}

/// What was replicated, and what it took.
#[derive(Clone, Copy)]
pub(crate) struct Replicated {
    pub(crate) at: Instant,
    pub(crate) span: Duration,
    pub(crate) commits: u64,
    /// Of the commits, in the replica.
    pub(crate) bytes: u64,
    pub(crate) files: usize,
    /// Of the last snapshot.
    pub(crate) snapshot: u64,
    pub(crate) snapshots: usize,
    /// Of the processors.
    pub(crate) processor: Duration,
}

impl Writer {
    /// The first one, with the fixture in its file, replicated for the first time.
    pub(crate) fn start(shared: &Shared) -> Self {
        let node = Node::new(shared, "writer");
        if shared.options.rows > 0 {
            let filled = data::file(&shared.root, shared.options.rows);
            fs::rename(filled, node.database()).unwrap();
        } else {
            node.run(&["init"]);
        }
        oracle::import(&node);
        let (server, address) = node.serve(&[], "off");
        let writer = Self::with(node, server, address);
        let began = Instant::now();
        while sizes(shared, "snapshots").is_empty() {
            assert!(began.elapsed() < PATIENCE, "there is no snapshot");
            sleep(Duration::from_millis(20));
        }
        writer
    }

    /// One on a node with a file and a server.
    pub(crate) fn with(node: Node, server: Process, address: String) -> Self {
        Self {
            asked: Arc::new(Asked::new(node.name, address, true)),
            server,
            beating: node.beat(),
            replicating: node.replicate(),
            node,
        }
    }

    /// Has the login system write, and callers ask.
    pub(crate) fn work<'s>(&self, scope: &'s Scope<'s, '_>, shared: &'s Shared) -> Work<'s> {
        let (asked, database) = (self.asked.clone(), self.node.database());
        Work {
            login: scope.spawn(move || login::run(shared, &asked, &database)),
            callers: callers::ask(scope, shared, &self.asked),
        }
    }

    /// What Litestream has done until now.
    pub(crate) fn replication(&self, shared: &Shared) -> Replicated {
        let (wal, snapshots) = (sizes(shared, "wal"), sizes(shared, "snapshots"));
        Replicated {
            at: Instant::now(),
            span: Duration::ZERO,
            commits: shared.history.numbers().1,
            bytes: wal.iter().sum(),
            files: wal.len(),
            snapshot: snapshots.iter().copied().max().unwrap_or(0),
            snapshots: snapshots.len(),
            processor: self.replicating.processor_time(),
        }
    }

    /// As when the machine loses its power, and first of all its way to the replica.
    pub(crate) fn kill(&mut self, shared: &Shared) -> Killed {
        shared.is_replicated.store(false, Ordering::SeqCst);
        self.asked.over.store(true, Ordering::SeqCst);
        let killed = Killed {
            at: Instant::now(),
            wall: wall(),
            done: shared.history.numbers().1,
        };
        for process in [&mut self.replicating, &mut self.beating, &mut self.server] {
            process.kill();
        }
        killed
    }
}

/// What came in between.
impl Sub for Replicated {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            span: self.at - before.at,
            commits: self.commits - before.commits,
            bytes: self.bytes - before.bytes,
            files: self.files - before.files,
            snapshots: self.snapshots - before.snapshots,
            processor: self.processor - before.processor,
            ..self
        }
    }
}
