//! How many sessions are active, counted in the background for those who watch the server.
//!
//! It is a number for a chart, not an answer: sessions are looked at one after another, each by the one predicate as of
//! the moment at which the count began, while others write. So it can be had without a long read transaction, which
//! would keep the WAL from beginning anew. The count works for [`WORK`] with a connection of the pool, and only if one is
//! free at once; then it gives it back and rests for [`PAUSE`]. That is a twentieth of one core, whatever the file's size:
//! some two million sessions a minute.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::reader::Reader;
use super::view::{INSTANTS, instants};
use crate::session::{Policies, TenantId, UserId};
use crate::time::Timestamp;

const WORK: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_millis(40);

/// After how many sessions it is looked whether the time to work is over.
const LOOK: usize = 64;

/// How often in a row no connection may be had before a count is given up.
const PATIENCE: u32 = 250;

/// The most tenants that are told apart: beyond them, new ones are counted in the sum only.
const MOST_TENANTS: usize = 10_000;

/// The result of one count.
#[derive(Clone, Debug)]
pub struct Census {
    pub active: u64,
    /// The tenants with the most active sessions, the largest first: as many as were asked for.
    pub tenants: Vec<(String, u64)>,
    /// The newest creation, authentication or activity, not in the future, of a session that is not revoked.
    pub newest_event_at: Option<Timestamp>,
    /// As of when.
    pub at: Timestamp,
}

/// The newest result, shared by the count and those who read it.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<Census>>);

impl Newest {
    pub(super) fn get(&self) -> Option<Census> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, census: Census) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(census);
    }
}

/// The counts of one file, until this is dropped.
pub struct Counting {
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl Counting {
    /// Counts in the file of `reader` now and every `interval`, by what `policies` says then, and tells the `tenants`
    /// largest apart; on a thread of its own.
    pub fn start(
        reader: &Reader,
        interval: Duration,
        tenants: usize,
        policies: impl Fn() -> Policies + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (reader, stopped) = (reader.clone(), Arc::clone(&stop));
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                if let Some(census) = count(&reader, &policies(), tenants, &stopped) {
                    reader.newest_census().set(census);
                }
                while began.elapsed() < interval && !stopped.load(Ordering::Relaxed) {
                    thread::park_timeout(interval.saturating_sub(began.elapsed()));
                }
                thread::park_timeout(PAUSE);
            }
        };
        let thread = thread::Builder::new()
            .name("census".to_owned())
            .spawn(run)?;
        Ok(Self {
            stop,
            thread: thread.thread().clone(),
        })
    }
}

impl Drop for Counting {
    /// The thread is not waited for: it may be waiting for a disk, and it leaves nothing half done.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// One count; `None` where it could not be brought to an end.
fn count(
    reader: &Reader,
    policies: &Policies,
    tenants: usize,
    stop: &AtomicBool,
) -> Option<Census> {
    // Whatever the path leads to now is opened by this, even if nobody asks the server anything.
    let (tenant, user) = (TenantId::new("census").ok()?, UserId::new("census").ok()?);
    let at = Timestamp::now();
    let cutoffs = policies.of(&tenant).cutoffs(at);
    reader.count_blocking(&tenant, &user, &cutoffs).ok()?;

    let mut tally = Tally {
        at,
        policies,
        active: 0,
        newest_event_at: None,
        by_tenant: (tenants > 0).then(HashMap::new),
        last: Key::default(),
    };
    let mut in_vain = 0;
    loop {
        if stop.load(Ordering::Relaxed) || in_vain > PATIENCE {
            return None;
        }
        let began = Instant::now();
        let is_enough = |looked_at| looked_at % LOOK == 0 && began.elapsed() >= WORK;
        match reader.lend(|connection| tally.go_on(connection, is_enough)) {
            Some(Ok(true)) => return Some(tally.census(tenants)),
            Some(Ok(false)) => in_vain = 0,
            Some(Err(error)) => {
                tracing::debug!(%error, "the active sessions were not counted");
                return None;
            }
            None => in_vain += 1,
        }
        thread::park_timeout(PAUSE);
    }
}

/// User and tenant, as bytes: another program may have written what is no text.
type Key = (Vec<u8>, Vec<u8>);

/// How far a count has come.
struct Tally<'p> {
    at: Timestamp,
    policies: &'p Policies,
    active: u64,
    newest_event_at: Option<Timestamp>,
    by_tenant: Option<HashMap<String, u64>>,
    /// The last user of a tenant whose sessions were all looked at.
    last: Key,
}

impl Tally<'_> {
    /// Looks at sessions until `is_enough` says so of how many there were, and to the end of the user at whom it is;
    /// whether it was the last one.
    fn go_on(
        &mut self,
        connection: &Connection,
        is_enough: impl Fn(usize) -> bool,
    ) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(&sql())?;
        let last = std::mem::take(&mut self.last);
        let text = |bytes| ToSqlOutput::Borrowed(ValueRef::Text(bytes));
        let mut rows = statement.query((text(&last.0), text(&last.1)))?;
        let (mut key, mut is_over) = (Key::default(), false);
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let (user, tenant) = (row.get_ref(6)?.as_bytes()?, row.get_ref(7)?.as_bytes()?);
            if user != key.0 || tenant != key.1 {
                if is_over {
                    self.last = key;
                    return Ok(false);
                }
                key = (user.to_vec(), tenant.to_vec());
            }
            // What is no text of ours can have no policy of its own.
            let tenant = str::from_utf8(tenant).unwrap_or_default();
            let instants = instants(row)?;
            if instants.is_active_at(self.at, self.policies.of_name(tenant)) {
                self.add(tenant);
            }
            self.newest_event_at = self.newest_event_at.max(instants.newest_event_by(self.at));
            looked_at += 1;
            is_over |= is_enough(looked_at);
        }
        Ok(true)
    }

    fn add(&mut self, tenant: &str) {
        self.active += 1;
        let Some(by_tenant) = &mut self.by_tenant else {
            return;
        };
        if let Some(count) = by_tenant.get_mut(tenant) {
            *count += 1;
        } else if by_tenant.len() < MOST_TENANTS {
            by_tenant.insert(tenant.to_owned(), 1);
        }
    }

    fn census(self, most: usize) -> Census {
        let mut tenants: Vec<(String, u64)> =
            self.by_tenant.unwrap_or_default().into_iter().collect();
        tenants.sort_unstable_by(|(one, more), (other, less)| less.cmp(more).then(one.cmp(other)));
        tenants.truncate(most);
        Census {
            active: self.active,
            tenants,
            newest_event_at: self.newest_event_at,
            at: self.at,
        }
    }
}

/// All sessions that are not revoked, by user and tenant, behind one of these; the index alone answers it. User and
/// tenant are the columns 6 and 7, which are asked for by number, since there are so many rows.
fn sql() -> String {
    format!(
        "SELECT {INSTANTS}, user_id, tenant_id FROM session INDEXED BY session_live
         WHERE revoked_at IS NULL AND (user_id, tenant_id) > (?1, ?2) ORDER BY user_id, tenant_id"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Policy;
    use crate::store::schema;
    use crate::time::Span;

    #[test]
    fn the_index_alone_gives_the_sessions_in_their_order() {
        let made = Connection::open_in_memory().unwrap();
        made.execute_batch(schema::SQL).unwrap();
        let mut plan = made
            .prepare(&format!("EXPLAIN QUERY PLAN {}", sql()))
            .unwrap();
        let steps: Vec<String> = plan
            .query_map(["", ""], |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            steps,
            ["SEARCH session USING COVERING INDEX session_live ((user_id,tenant_id)>(?,?))"]
        );
    }

    /// Whatever the number of steps, each session is looked at once, by its tenant's policy.
    #[test]
    fn each_session_is_counted_once() {
        let made = Connection::open_in_memory().unwrap();
        made.execute_batch(schema::SQL).unwrap();
        let insert =
            "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, revoked_at)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = made.prepare(insert).unwrap();
        let mut number = 0;
        for user in 0..40 {
            for tenant in ["a", "b", "short"] {
                for session in 0..10 {
                    number += 1;
                    let expires_at = if session == 0 { 500 } else { 5_000 };
                    let revoked_at = (session == 1).then_some(600);
                    let fields = (
                        tenant,
                        number,
                        format!("u{user}"),
                        100,
                        expires_at,
                        revoked_at,
                    );
                    insert.execute(fields).unwrap();
                }
            }
        }
        let short = Policy {
            max_age: Some(Span::from_millis(100)),
            ..Policy::default()
        };
        let policies = Policies {
            general: Policy::default(),
            tenants: HashMap::from([(TenantId::new("short").unwrap().into_owned(), short)]),
        };
        let mut tally = Tally {
            at: Timestamp::from_millis(1_000),
            policies: &policies,
            active: 0,
            newest_event_at: None,
            by_tenant: Some(HashMap::new()),
            last: Key::default(),
        };
        // From one user to the next, as if the time to work were always over.
        let mut steps = 0;
        while !tally.go_on(&made, |_| true).unwrap() {
            steps += 1;
        }
        assert!(steps > 100, "{steps}");
        let census = tally.census(1);
        assert_eq!(census.active, 2 * 40 * 8);
        assert_eq!(census.newest_event_at, Some(Timestamp::from_millis(100)));
        assert_eq!(census.tenants, [("a".to_owned(), 40 * 8)]);
    }
}
