//! A worker's own way to the file.
//!
//! Most counts take a microsecond or two, far less than handing them to another thread. So a worker first tries
//! on a connection of its own, bounded so that no other request of that worker waits for long: it never waits for
//! a lock, and gives up after some tens of microseconds of work. What was not counted then goes to the second
//! lane, the reader's pool, on a thread that may wait.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use r2d2::PooledConnection;
use r2d2_sqlite::SqliteConnectionManager;
use tokio::sync::OwnedSemaphorePermit;

use super::reader::{Identity, Reader, query};
use super::{FileFault, StoreError};
use crate::session::{Cutoffs, TenantId, UserId};

/// After how many steps of SQLite's virtual machine the progress handler is called, and at which call it ends the
/// try. A counted session takes about ten steps and 30 ns: the try ends after 2,000 to 4,000 of them.
const STEPS: i32 = 20_000;
const CALLS: u32 = 2;

/// The first and the second lane of one worker.
pub struct Lane {
    reader: Reader,
    /// Locked by its worker for the time of a count, and by whoever closes all connections of a replaced file.
    leased: Slot,
}

/// The place of a leased connection, known to its lane and to the reader.
pub(super) type Slot = Arc<Mutex<Option<Leased>>>;

/// A connection of the pool that one worker keeps.
pub(super) struct Leased {
    connection: PooledConnection<SqliteConnectionManager>,
    /// The file it is open on.
    identity: Identity,
    /// How often the progress handler was called since the count began.
    calls: Arc<AtomicU32>,
    _permit: OwnedSemaphorePermit,
}

impl Lane {
    pub(super) fn new(reader: Reader, leased: Slot) -> Self {
        Self { reader, leased }
    }

    /// The number of sessions of `user` in `tenant` whose instants all lie after `cutoffs`.
    pub async fn count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Result<u64, StoreError> {
        match self.try_count(tenant, user, cutoffs) {
            Some(count) => Ok(count),
            None => {
                self.reader
                    .count(tenant.clone(), user.clone(), *cutoffs)
                    .await
            }
        }
    }

    /// The count, if it can be had at once.
    fn try_count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Option<u64> {
        let mut leased = self.leased.try_lock().ok()?;
        if leased.is_none() {
            *leased = self.reader.lease();
        }
        let leased = leased.as_ref()?;
        let count = leased.count(tenant, user, cutoffs).ok()?;
        // Of another file now, the second lane notices the same and opens that one.
        leased.is_on(self.reader.path()).then_some(count)
    }
}

impl Leased {
    /// Makes a connection of the pool one that never holds its worker for long.
    pub(super) fn new(
        connection: PooledConnection<SqliteConnectionManager>,
        identity: Identity,
        permit: OwnedSemaphorePermit,
    ) -> rusqlite::Result<Self> {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        connection.busy_timeout(Duration::ZERO)?;
        connection.progress_handler(
            STEPS,
            Some(move || counted.fetch_add(1, Ordering::Relaxed) + 1 >= CALLS),
        )?;
        Ok(Self {
            connection,
            identity,
            calls,
            _permit: permit,
        })
    }

    fn count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Result<u64, FileFault> {
        self.calls.store(0, Ordering::Relaxed);
        query(&self.connection, tenant.as_str(), user.as_str(), cutoffs)
    }

    fn is_on(&self, path: &Path) -> bool {
        self.identity == Identity::of(path)
    }
}
