//! What the threads have in common: the history, the nodes that are asked, and what must not be.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::Options;
use crate::history::History;

/// How many faults are told in full.
const TOLD: usize = 20;

pub(crate) struct Shared {
    pub(crate) options: Options,
    /// The folder of the nodes.
    pub(crate) root: PathBuf,
    /// The program.
    pub(crate) litestream: PathBuf,
    pub(crate) history: History,
    /// Whether the writer node has not gone yet: only until then the age of a reader's data means something.
    pub(crate) is_replicated: AtomicBool,
    /// How many read nodes take a state over right now.
    pub(crate) refreshing: AtomicUsize,
    pub(crate) over: AtomicBool,
    faults: Mutex<(u64, Vec<String>)>,
}

/// Ends the test when dropped.
pub(crate) struct End<'s>(pub(crate) &'s Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// A server that is asked all the time.
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    pub(crate) is_writer: bool,
    /// How many commits it has shown to hold, and the newest heartbeat it has stated.
    pub(crate) held: AtomicU64,
    pub(crate) stated: AtomicI64,
    /// Whether it may have gone.
    pub(crate) over: AtomicBool,
}

impl Asked {
    pub(crate) fn new(name: &'static str, address: String, is_writer: bool) -> Self {
        Self {
            name,
            address,
            is_writer,
            held: AtomicU64::new(0),
            stated: AtomicI64::new(0),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn may_be_gone(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Shared {
    pub(crate) fn new(options: Options, root: &Path, litestream: PathBuf) -> Self {
        Self {
            options,
            root: root.to_owned(),
            litestream,
            history: History::new(),
            is_replicated: AtomicBool::new(false),
            refreshing: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            faults: Mutex::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Something that must not be.
    pub(crate) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap();
        faults.0 += 1;
        if faults.1.len() < TOLD {
            faults.1.push(what);
        }
    }

    /// How much there was that must not be, and the first of it.
    pub(crate) fn faults(&self) -> (u64, Vec<String>) {
        self.faults.lock().unwrap().clone()
    }
}
