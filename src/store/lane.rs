//! A worker's own way to the file.
//!
//! Most counts take a microsecond or two, far less than handing them to another thread. So a worker first tries
//! on a connection of its own, bounded so that no other request of that worker waits for long: it never waits for
//! a lock, and gives up after some tens of microseconds of work. What was not counted then goes to the second
//! lane, the reader's pool, on a thread that may wait.
//!
//! Two thirds of a short count would be spent on beginning and ending a read transaction. So a worker holds one
//! open, as long as `direct` tells that nobody has committed since, somebody asks, and the WAL is short.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use r2d2::PooledConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use tokio::sync::OwnedSemaphorePermit;

use super::StoreError;
use super::direct::{Checkpoints, Direct, Header};
use super::place::{Place, Watch};
use super::reader::{COUNT, Reader, Snapshot, marks};
use super::schema::Versions;
use crate::metrics::Counter;
use crate::session::{Cutoffs, TenantId, UserId};

/// After how many steps of SQLite's virtual machine the progress handler is called, and at which call it ends the
/// try. A counted session takes about ten steps and 30 ns: the try ends after 2,000 to 4,000 of them.
const STEPS: i32 = 20_000;
const CALLS: u32 = 2;

/// How long a quiet folder is believed. What its events don't tell, such as a mount over the folder or a folder above
/// it that is renamed, is noticed after this.
const BELIEVED: Duration = Duration::from_millis(100);

/// How long a snapshot is held that nobody asks, at least; at most it is twice that.
const IDLE: Duration = Duration::from_millis(50);

/// How old a snapshot grows. A checkpoint that waits for readers waits for those that use the WAL; one that begins
/// once all of the WAL is in the file uses the file alone, so each new snapshot gives it the chance.
const MOST_AGE: Duration = Duration::from_millis(10);

/// The longest WAL, in frames, over which a snapshot is held. A held snapshot keeps writers from beginning the WAL
/// anew; over this length, which is SQLite's usual one for a checkpoint, every read gives them the chance.
const MOST_FRAMES: u32 = 1_000;

/// The first and the second lane of one worker.
pub struct Lane {
    reader: Reader,
    /// Locked by its worker for the time of a count, and by whoever closes all connections of a replaced file.
    leased: Slot,
    /// How often the worker opened a snapshot.
    snapshots: Arc<Counter>,
    /// Whether a count at once found the file cut, which the one that follows it tells, for the same request.
    was_cut: AtomicBool,
}

/// The place of a leased connection, known to its lane and to the reader.
pub(super) type Slot = Arc<Mutex<Option<Leased>>>;

impl Lane {
    pub(super) fn new(reader: Reader, leased: Slot, snapshots: Arc<Counter>) -> Self {
        Self {
            reader,
            leased,
            snapshots,
            was_cut: AtomicBool::new(false),
        }
    }

    /// The number of sessions of `user` in `tenant` whose instants all lie after `cutoffs`, if it can be had at once.
    /// `now` is any instant since the request came.
    pub fn count_at_once(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
        now: Instant,
    ) -> Option<u64> {
        let mut slot = match self.leased.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if slot.is_none() {
            *slot = self.reader.lease(&self.snapshots);
        }
        let leased = slot.as_mut()?;
        let count = leased.count(tenant, user, cutoffs, now);
        if count.is_err() && leased.direct.was_cut() {
            self.was_cut.store(true, Ordering::Relaxed);
        }
        if leased.wants_a_timer() {
            tokio::spawn(let_go_when_idle(Arc::clone(&self.leased)));
        }
        // Of another file now, the second lane notices the same and opens that one.
        count
            .ok()
            .filter(|_| leased.is_current(self.reader.place(), now))
    }

    /// The same on the second lane, which waits for whatever has to be waited for.
    pub fn count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send + use<> {
        let reader = self.reader.clone();
        let (tenant, user) = (tenant.clone().into_owned(), user.clone().into_owned());
        let cutoffs = *cutoffs;
        let was_cut = self.was_cut.swap(false, Ordering::Relaxed);
        async move {
            if was_cut {
                tracing::warn!("the data file was cut while it was read; restore it from a backup");
            }
            reader.count(tenant, user, cutoffs).await
        }
    }
}

/// Lets go of a snapshot once nobody has asked it for a while.
async fn let_go_when_idle(slot: Slot) {
    loop {
        tokio::time::sleep(IDLE).await;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_mut().is_none_or(Leased::let_go_if_idle) {
            break;
        }
    }
}

/// A connection of the pool that one worker keeps.
pub(super) struct Leased {
    direct: Direct,
    /// The eye on the file that it is open on.
    watch: Watch,
    /// Whether anybody found that the file was written over.
    overwritten: Arc<AtomicBool>,
    /// What its schema was verified under.
    versions: Versions,
    /// Until when all are are believed to be as they were while nothing happens; `None` where they were not, or were
    /// never looked at.
    believed_until: Option<Instant>,
    snapshot: Snapshot,
    snapshots: Arc<Counter>,
    /// The header of the wal-index before the read transaction that is open, and when that gets too old; `None` while
    /// none is.
    held: Option<(Header, Instant)>,
    /// Whether the snapshot was asked since `let_go_when_idle` last looked.
    used: bool,
    /// Whether `let_go_when_idle` is under way.
    has_timer: bool,
    /// How often the progress handler was called since the count began.
    calls: Arc<AtomicU32>,
    _permit: OwnedSemaphorePermit,
}

impl Leased {
    /// Makes a connection of the pool one that never holds its worker for long. It stays so: a leased connection
    /// goes back only to a pool that is being closed.
    pub(super) fn new(
        connection: PooledConnection<SqliteConnectionManager>,
        watch: Watch,
        overwritten: Arc<AtomicBool>,
        versions: Versions,
        snapshot: Snapshot,
        snapshots: Arc<Counter>,
        permit: OwnedSemaphorePermit,
    ) -> rusqlite::Result<Self> {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        connection.progress_handler(
            STEPS,
            Some(move || counted.fetch_add(1, Ordering::Relaxed) + 1 >= CALLS),
        )?;
        connection.busy_timeout(Duration::ZERO)?;
        // Looking at every cell of each page that is read takes a sixth of a count's instructions. Damage that it would
        // find is found by the connections of the second lane and by `sessile doctor`.
        connection.pragma_update(None, "cell_size_check", false)?;
        // In a file that somebody has analyzed, a plan may depend on what is bound, and then is made for each count.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(Self {
            direct: Direct::new(connection, COUNT)?,
            watch,
            overwritten,
            versions,
            believed_until: None,
            snapshot,
            snapshots,
            held: None,
            used: false,
            has_timer: false,
            calls,
            _permit: permit,
        })
    }

    fn count(
        &mut self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
        now: Instant,
    ) -> rusqlite::Result<u64> {
        self.calls.store(0, Ordering::Relaxed);
        if self.snapshot == Snapshot::Held {
            self.renew(now)?;
        }
        let count = self
            .direct
            .count([tenant.as_str(), user.as_str()], marks(cutoffs));
        if count.is_err() {
            self.let_go()?;
        }
        Ok(count?.unsigned_abs())
    }

    /// Whether the paths lead where they did and the schema is the one that was verified: looked at once anything has
    /// happened in the folder, and every now and then for what can't be seen there. Who writes rows does not change
    /// the schema, and the statement would fail where its table or index is gone. `now` is any instant since the
    /// request came.
    fn is_current(&mut self, place: &Place, now: Instant) -> bool {
        // Counted anew by SQLite itself whenever the schema of the snapshot is another than before.
        let was_prepared_anew = self.direct.was_prepared_anew();
        let is_quiet = self.watch.is_quiet();
        if is_quiet && !was_prepared_anew && self.believed_until.is_some_and(|end| now < end) {
            return true;
        }
        self.direct.tidy(now);
        let connection = self.direct.connection();
        if !is_quiet && self.watch.was_overwritten(|| Checkpoints::of(connection)) {
            self.overwritten.store(true, Ordering::Relaxed);
        }
        let is_current = !self.overwritten.load(Ordering::Relaxed)
            && self.watch.is_unchanged(place)
            && Versions::of(self.direct.connection())
                .is_ok_and(|versions| versions == self.versions);
        // A change that was seen once is not forgotten while the queue is quiet.
        self.believed_until = is_current.then(|| now + BELIEVED);
        is_current
    }

    /// Makes sure that the next query sees the newest commit: by the transaction that is open, by a new one, or by
    /// none at all.
    fn renew(&mut self, now: Instant) -> rusqlite::Result<()> {
        self.used = true;
        let header = self.direct.header();
        if let Some((held, end)) = self.held
            && header == Some(held)
            && now < end
        {
            return Ok(());
        }
        self.let_go()?;
        if let Some(header) = header.filter(|header| header.frames() <= MOST_FRAMES) {
            self.direct
                .connection()
                .prepare_cached("BEGIN")?
                .execute([])?;
            self.held = Some((header, now + MOST_AGE));
            self.snapshots.add_one();
        }
        Ok(())
    }

    fn let_go(&mut self) -> rusqlite::Result<()> {
        self.held = None;
        if !self.direct.connection().is_autocommit() {
            self.direct
                .connection()
                .prepare_cached("ROLLBACK")?
                .execute([])?;
        }
        Ok(())
    }

    /// Whether a snapshot is held that no timer is for; from now on one is.
    fn wants_a_timer(&mut self) -> bool {
        self.held.is_some() && !std::mem::replace(&mut self.has_timer, true)
    }

    /// Lets go of a snapshot that was not asked since the last look; whether the timer is done.
    fn let_go_if_idle(&mut self) -> bool {
        if std::mem::take(&mut self.used) {
            return false;
        }
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, "a snapshot could not be let go");
        }
        self.has_timer = false;
        true
    }
}
