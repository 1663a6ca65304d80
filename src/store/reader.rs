//! The reading side: counts over a pool of read-only connections.
//!
//! Every count runs in a read transaction of its own, so it sees each commit that any process made before it
//! began. What SQLite can't see is that the file under its path is no longer the one it opened: a connection
//! then serves old data for ever. So each count is followed by a look at what the path leads to now, and where
//! that has changed the count is thrown away, every connection is closed (SQLite shares state between the
//! connections of a process, so one that stays open would poison the new ones) and the path is opened again.
//!
//! A file that was written over in place is read again once nobody writes it any more. A WAL with contents that stayed
//! beside a file that is another now is no part of it, whatever SQLite would make of both: nothing is answered from
//! them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::backup::{companions, with_suffix};
use super::census::{Census, Newest};
use super::direct::Checkpoints;
use super::heartbeat::Last;
use super::integrity::{Inspection, Report};
use super::lane::{Lane, Leased, Slot};
use super::place::{self, Identity, Place, Watch};
use super::space::Extent;
use super::usage::{Counts, Usage};
use super::{FileFault, StoreError, harden, schema};
use crate::metrics::Counter;
use crate::session::{Cutoffs, Policy, TenantId, UserId};
use crate::time::Timestamp;

/// How long a query waits for a lock that another process holds. Readers of a WAL file meet one only while a
/// writer opens, closes or recovers the file, which takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The predicate of [`Session::is_active_at`](crate::session::Session::is_active_at) over the columns of the
/// index `session_live`, which alone answers it. The index is named because a planner with statistics could
/// otherwise choose the primary key and read every session of the tenant.
pub(super) const COUNT: &str = "\
    SELECT count(*) FROM session INDEXED BY session_live
    WHERE tenant_id = ?1 AND user_id = ?2 AND revoked_at IS NULL
      AND expires_at > ?3
      AND (idle_expires_at IS NULL OR idle_expires_at > ?3)
      AND (?4 IS NULL OR coalesce(authenticated_at, created_at) > ?4)
      AND (?5 IS NULL OR coalesce(last_active_at, authenticated_at, created_at) > ?5)";

/// The parameters of [`COUNT`] behind tenant and user, in its order.
pub(super) fn marks(cutoffs: &Cutoffs) -> [Option<i64>; 3] {
    [
        Some(cutoffs.deadline),
        cutoffs.authentication,
        cutoffs.activity,
    ]
    .map(|mark| mark.map(Timestamp::as_millis))
}

/// How long a reader of the pool waits for such a lock: less than the second within which `/readyz` names the cause.
const LOCK_TIMEOUT: Duration = Duration::from_millis(700);

/// How long a file that was written over must have been left alone.
const SETTLED: Duration = Duration::from_millis(500);

/// How often a file may be swapped under one count before that is an error.
const ATTEMPTS: usize = 3;

/// What a worker's own connection sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// A read transaction that is held open while nobody commits: no locks are taken for a query.
    Held,
    /// A read transaction for each query.
    PerQuery,
}

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The number of connections, at least 1.
    pub pool_size: u32,
    pub snapshot: Snapshot,
}

/// Answers from one file, on as many threads as it has connections. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    options: Options,
    /// One permit for each connection, so that waiting for one is done in the runtime, not on a thread.
    permits: Arc<Semaphore>,
    state: RwLock<State>,
    /// The connections that workers keep: at most one less than the pool has, so that the second lane has one.
    leases: Mutex<Vec<Slot>>,
    counts: Counts,
    inspection: Inspection,
    census: Newest,
    heartbeat: Last,
}

struct State {
    /// `None` after the file could not be opened again; the next count tries anew.
    opened: Option<Opened>,
    /// When and why it could not.
    failed: Option<(Instant, Arc<FileFault>)>,
    left: Option<Left>,
    /// What a file that was written over looked like, and since when.
    settling: Option<(Stamp, Instant)>,
}

/// The WAL of a file that is read no more.
struct Left {
    /// Device and inode of the file; `None` where it was written over, so that what is there now is another.
    file: Option<(u64, u64)>,
    wal: PathBuf,
    header: WalHeader,
}

/// The header of a WAL, which has other salts after every reset
/// (<https://www.sqlite.org/fileformat2.html>, section 4.1).
type WalHeader = [u8; 32];

/// Length and time of the last change of a file.
type Stamp = Option<(u64, SystemTime)>;

/// A pool over the file that `identity` names.
struct Opened {
    pool: r2d2::Pool<SqliteConnectionManager>,
    identity: Identity,
    /// The path of its WAL.
    wal: PathBuf,
    eye: Mutex<Watch>,
    /// Whether this eye or a worker's has seen the file written over.
    overwritten: Arc<AtomicBool>,
    /// What the schema was verified under.
    versions: schema::Versions,
    /// Whether a count met a damaged page, which its connection would still have when the file is mended.
    met_damage: AtomicBool,
}

impl Reader {
    /// Opens the file read-only, checks that it is one to answer from, and asks it once.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let place = Place::new(path);
        let opened = Opened::open(&place, options.pool_size).map_err(|fault| fault.at(path))?;
        Ok(Self {
            shared: Arc::new(Shared {
                place,
                options,
                permits: Arc::new(Semaphore::new(options.pool_size as usize)),
                state: RwLock::new(State {
                    opened: Some(opened),
                    failed: None,
                    left: None,
                    settling: None,
                }),
                leases: Mutex::default(),
                counts: Counts::default(),
                inspection: Inspection::default(),
                census: Newest::default(),
                heartbeat: Last::default(),
            }),
        })
    }

    /// A worker's own way to the file.
    pub fn lane(&self) -> Lane {
        let slot = Slot::default();
        self.shared
            .leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&slot));
        Lane::new(self.clone(), slot, self.shared.counts.snapshots())
    }

    pub fn usage(&self) -> Usage {
        let (size, free) = (
            self.shared.options.pool_size,
            self.shared.permits.available_permits(),
        );
        self.shared.counts.usage(size, free)
    }

    /// What the file system tells of the file. It may wait for a disk.
    pub fn extent(&self) -> std::io::Result<Extent> {
        Extent::of(self.place().path())
    }

    /// The newest count of all active sessions, where such counts are made.
    pub fn census(&self) -> Option<Census> {
        self.shared.census.get()
    }

    pub(super) fn newest_census(&self) -> &Newest {
        &self.shared.census
    }

    pub(super) fn last_heartbeat(&self) -> &Last {
        &self.shared.heartbeat
    }

    /// Lends a connection of the pool for a moment, if one is free at once and the file is the one that is open.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&Connection) -> T) -> Option<T> {
        let _permit = self.shared.permits.try_acquire().ok()?;
        let state = self.shared.state.try_read().ok()?;
        let opened = state.opened.as_ref()?;
        let result = work(&*opened.pool.try_get()?);
        opened.is_current(self.place()).then_some(result)
    }

    pub(super) fn place(&self) -> &Place {
        &self.shared.place
    }

    pub(super) fn inspection(&self) -> &Inspection {
        &self.shared.inspection
    }

    /// What the checks in the background have found so far.
    pub fn integrity(&self) -> Report {
        self.shared.inspection.report()
    }

    /// A connection for a worker to keep, if one can be had at once.
    pub(super) fn lease(&self, snapshots: &Arc<Counter>) -> Option<Leased> {
        // Two are asked for and one is given back: the second lane is never left without a connection.
        let mut permits = Arc::clone(&self.shared.permits)
            .try_acquire_many_owned(2)
            .ok()?;
        let permit = permits.split(1)?;
        let state = self.shared.state.try_read().ok()?;
        let opened = state.opened.as_ref()?;
        let connection = opened.pool.try_get()?;
        let checkpoints = Checkpoints::of(&connection);
        let watch = Watch::new(self.place(), opened.identity, checkpoints);
        // What was written over before the watch began, the eye has seen.
        if !opened.is_untouched(&connection) {
            return None;
        }
        Leased::new(
            connection,
            watch,
            Arc::clone(&opened.overwritten),
            opened.versions,
            self.shared.options.snapshot,
            Arc::clone(snapshots),
            permit,
        )
        .ok()
    }

    /// The number of sessions of `user` in `tenant` whose instants all lie after `cutoffs`. Waits for a
    /// connection without holding a worker of the runtime.
    pub async fn count(
        &self,
        tenant: TenantId<'_>,
        user: UserId<'_>,
        cutoffs: Cutoffs,
    ) -> Result<u64, StoreError> {
        let waiting = self.shared.counts.wait();
        let free = timeout(
            BUSY_TIMEOUT,
            Arc::clone(&self.shared.permits).acquire_owned(),
        )
        .await;
        drop(waiting);
        let Ok(Ok(permit)) = free else {
            return Err(FileFault::Crowded.at(self.shared.place.path()));
        };
        let (reader, tenant, user) = (self.clone(), tenant.into_owned(), user.into_owned());
        let span = tracing::Span::current();
        let count = tokio::task::spawn_blocking(move || {
            // The permit goes with the connection: whoever asked may be gone before the count is done.
            let _permit = permit;
            span.in_scope(|| reader.count_blocking(&tenant, &user, &cutoffs))
        });
        count
            .await
            .map_err(|error| FileFault::from(error).at(self.shared.place.path()))?
    }

    /// The same, on the calling thread.
    pub fn count_blocking(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Result<u64, StoreError> {
        self.shared
            .count(tenant, user, cutoffs)
            .map_err(|fault| fault.at(self.shared.place.path()))
    }
}

impl Shared {
    fn count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Result<u64, FileFault> {
        let mut damage = None;
        for _ in 0..ATTEMPTS {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(opened) = &state.opened {
                let count = opened.count(tenant, user, cutoffs);
                if opened.is_current(&self.place) {
                    match count {
                        Err(fault) if fault.is_damage() => {
                            opened.met_damage.store(true, Ordering::Relaxed);
                            self.inspection.met_damage();
                            damage = Some(fault);
                        }
                        count => return count,
                    }
                }
            }
            drop(state);
            if let Err(fault) = self.open_again() {
                return Err(damage.unwrap_or(fault));
            }
        }
        Err(damage.unwrap_or(FileFault::Unsteady))
    }

    /// Waits until no count is under way, closes every connection, and opens what the path leads to now.
    fn open_again(&self) -> Result<(), FileFault> {
        let asked = Instant::now();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &state.opened
            && opened.is_current(&self.place)
        {
            return Ok(()); // another thread was here first
        }
        if let Some((at, fault)) = &state.failed
            && *at > asked
        {
            return Err(FileFault::Still(Arc::clone(fault))); // another thread tried while this one waited
        }
        let _closed = self.inspection.close();
        if let Some(opened) = state.opened.take() {
            state.left = opened.left();
            if opened.overwritten.load(Ordering::Relaxed) {
                state.settling = Some((stamp(self.place.path()), asked));
            }
        }
        for slot in &*self.leases.lock().unwrap_or_else(PoisonError::into_inner) {
            // The connection goes back to its pool, which nobody else holds any more, and is closed with it.
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        match self.try_open(&mut state) {
            Ok(opened) => {
                state.opened = Some(opened);
                (state.failed, state.left) = (None, None);
            }
            Err(fault) => {
                let fault = Arc::new(fault);
                state.failed = Some((Instant::now(), Arc::clone(&fault)));
                return Err(FileFault::Still(fault));
            }
        }
        self.inspection.opened_anew();
        self.counts.reopened();
        tracing::info!(database.path = %self.place.path().display(), "the data file or its schema has changed; it was opened anew");
        Ok(())
    }

    fn try_open(&self, state: &mut State) -> Result<Opened, FileFault> {
        let path = self.place.path();
        if let Some((seen, since)) = &mut state.settling {
            let now = stamp(path);
            if *seen != now {
                (*seen, *since) = (now, Instant::now());
            }
            if since.elapsed() < SETTLED {
                return Err(FileFault::Overwritten);
            }
            state.settling = None;
        }
        if let Some(left) = &state.left
            && path.try_exists()?
            && (left.file.is_none() || left.file != place::number(path))
            && wal_header(&left.wal) == Some(left.header)
        {
            return Err(FileFault::Leftover {
                companion: left.wal.clone(),
            });
        }
        Opened::open(&self.place, self.options.pool_size)
    }
}

/// What changes about a file that is written.
fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.len(), file.modified().ok()?))
}

/// The header of the WAL at `path`; `None` where it has none. SQLite takes no locks on it, so that reading it here
/// drops none.
fn wal_header(path: &Path) -> Option<WalHeader> {
    let mut header = WalHeader::default();
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    Some(header)
}

impl Opened {
    /// Whether the path still leads to the file that is open, the file still is what was verified, and nothing else
    /// was found in it.
    fn is_current(&self, place: &Place) -> bool {
        let Ok(connection) = self.pool.get() else {
            return false;
        };
        self.is_untouched(&connection)
            && !self.met_damage.load(Ordering::Relaxed)
            && self.identity == place.identity()
            && schema::Versions::of(&connection).is_ok_and(|versions| versions == self.versions)
    }

    /// Whether nobody but SQLite has written the file, as `connection`, one of the pool, tells.
    fn is_untouched(&self, connection: &Connection) -> bool {
        let mut eye = self.eye.lock().unwrap_or_else(PoisonError::into_inner);
        if !eye.is_quiet() && eye.was_overwritten(|| Checkpoints::of(connection)) {
            self.overwritten.store(true, Ordering::Relaxed);
        }
        !self.overwritten.load(Ordering::Relaxed)
    }

    /// The WAL that stays behind when this is closed. It is looked at while it is still open, so that no other can
    /// have its inode.
    fn left(&self) -> Option<Left> {
        let is_ours = place::number(&self.wal) == self.identity.wal();
        Some(Left {
            file: self
                .identity
                .file()
                .filter(|_| !self.overwritten.load(Ordering::Relaxed)),
            wal: self.wal.clone(),
            header: wal_header(&self.wal).filter(|_| is_ours)?,
        })
    }

    /// Opens what the path leads to, all connections on one and the same file.
    fn open(place: &Place, pool_size: u32) -> Result<Self, FileFault> {
        for _ in 0..ATTEMPTS {
            if let Some(opened) = Self::try_open(place, pool_size)? {
                return Ok(opened);
            }
        }
        Err(FileFault::Unsteady)
    }

    /// `None` where the file was replaced meanwhile.
    fn try_open(place: &Place, pool_size: u32) -> Result<Option<Self>, FileFault> {
        let path = place.path();
        if !path.try_exists()? {
            return Err(FileFault::Missing);
        }
        let before = place.identity();
        // r2d2 tries for its whole timeout and forgets why it failed; a connection of our own fails at once and
        // says why. It stays open until the pool has its own, so that -wal and -shm stay what they are.
        let probe = Connection::open_with_flags(path, read_only())?;
        prepare(&probe)?;
        probe.busy_timeout(LOCK_TIMEOUT)?;
        let versions = schema::Versions::of(&probe)?;
        schema::verify(&probe)?;
        ask_once(&probe)?;
        let identity = place.identity();
        let eye = Watch::new(place, identity, Checkpoints::of(&probe));
        let manager = SqliteConnectionManager::file(path)
            .with_flags(read_only())
            .with_init(|connection| {
                prepare(connection)?;
                connection.busy_timeout(LOCK_TIMEOUT)?;
                ask_once(connection)
            });
        let pool = r2d2::Pool::builder()
            .max_size(pool_size)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_on_check_out(false)
            .connection_timeout(BUSY_TIMEOUT)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build(manager)?;
        let steady = before.is_same_file(&identity) && identity == place.identity();
        Ok(steady.then_some(Self {
            pool,
            identity,
            wal: companions(path)
                .next()
                .unwrap_or_else(|| with_suffix(path, "-wal")),
            eye: Mutex::new(eye),
            overwritten: Arc::default(),
            versions,
            met_damage: AtomicBool::new(false),
        }))
    }

    fn count(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        cutoffs: &Cutoffs,
    ) -> Result<u64, FileFault> {
        Ok(query(
            &*self.pool.get()?,
            tenant.as_str(),
            user.as_str(),
            cutoffs,
        )?)
    }
}

/// A count of nobody's sessions: until a connection has read, it has not looked at the file at all.
fn ask_once(connection: &Connection) -> rusqlite::Result<()> {
    let cutoffs = Policy::default().cutoffs(Timestamp::from_millis(0));
    query(connection, "", "", &cutoffs).map(|_| ())
}

pub(super) fn read_only() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// What each connection is told before its first query.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    harden(connection)?;
    connection.pragma_update(None, "query_only", true)
}

fn query(
    connection: &Connection,
    tenant: &str,
    user: &str,
    cutoffs: &Cutoffs,
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(COUNT)?;
    let [deadline, authentication, activity] = marks(cutoffs);
    let count: i64 = statement
        .query_row((tenant, user, deadline, authentication, activity), |row| {
            row.get(0)
        })?;
    Ok(count.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_alone_answers_the_count() {
        let made = Connection::open_in_memory().unwrap();
        made.execute_batch(schema::SQL).unwrap();
        let plan: String = made
            .query_row(
                &format!("EXPLAIN QUERY PLAN {COUNT}"),
                ("", "", 0, 0, 0),
                |row| row.get("detail"),
            )
            .unwrap();
        assert_eq!(
            plan,
            "SEARCH session USING COVERING INDEX session_live (user_id=? AND tenant_id=? AND expires_at>?)"
        );
        // "Covering" is the planner's word for it; the program itself must not open the table either.
        let mut program = made.prepare(&format!("EXPLAIN {COUNT}")).unwrap();
        let table: i64 = made
            .query_row(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'session'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        let mut steps = program.query(("", "", 0, 0, 0)).unwrap();
        while let Some(step) = steps.next().unwrap() {
            let opcode: String = step.get("opcode").unwrap();
            let root_page: i64 = step.get("p2").unwrap();
            assert!(
                opcode != "OpenRead" || root_page != table,
                "the count opens the table"
            );
        }
    }
}
