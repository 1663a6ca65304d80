//! What the file holds, in numbers.

use rusqlite::Connection;

use super::space::Space;
use super::view::{INSTANTS, View, instants};
use super::{StoreError, heartbeat};
use crate::session::{Deadline, Instants, Policies, Policy};
use crate::time::Timestamp;

/// The numbers of one moment.
#[derive(Debug)]
pub struct Survey {
    pub tenants: u64,
    /// Users with any session, ended ones included; the same id in two tenants is two users.
    pub users: u64,
    pub sessions: Tally,
    pub space: Space,
    /// When the contents were whole by the clock of who writes them, where the file tells it.
    pub heartbeat: Option<Timestamp>,
}

/// Sessions by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Neither revoked nor past a stored deadline, leeway included.
    pub live: u64,
    /// How many of the live ones count, under the policy of their tenant.
    pub active: u64,
    pub idle_ended: u64,
    pub expired: u64,
    pub revoked: u64,
    /// The newest creation, authentication, activity or revocation that is not in the future.
    pub newest_event_at: Option<Timestamp>,
}

impl Tally {
    pub fn total(&self) -> u64 {
        self.live + self.idle_ended + self.expired + self.revoked
    }

    fn add(&mut self, instants: &Instants, at: Timestamp, policy: &Policy) {
        let stored = Policy {
            leeway: policy.leeway,
            ..Policy::default()
        };
        let over = instants.end(&stored).filter(|end| end.is_over_at(at));
        *match over.map(|end| end.by) {
            None => &mut self.live,
            Some(Deadline::Revoked) => &mut self.revoked,
            Some(Deadline::IdleExpiresAt) => &mut self.idle_ended,
            Some(_) => &mut self.expired,
        } += 1;
        self.active += u64::from(instants.is_active_at(at, policy));
        self.newest_event_at = self.newest_event_at.max(instants.newest_event_by(at));
    }
}

/// Every user once. Most are in the index alone; the table is read for those with nothing but revoked sessions.
const USERS: &str = "\
    SELECT count(*) FROM (
        SELECT user_id, tenant_id FROM session INDEXED BY session_live WHERE revoked_at IS NULL
        UNION
        SELECT user_id, tenant_id FROM session NOT INDEXED WHERE revoked_at IS NOT NULL)";

impl View {
    /// Counts everything, as it is at `at`.
    pub fn survey(&self, at: Timestamp, policies: &Policies) -> Result<Survey, StoreError> {
        let (tenants, users, sessions, heartbeat) = self.ask(|connection| {
            Ok((
                number(connection, "SELECT count(DISTINCT tenant_id) FROM session")?,
                number(connection, USERS)?,
                tally(connection, at, policies)?,
                heartbeat::read(connection)?,
            ))
        })?;
        Ok(Survey {
            tenants,
            users,
            sessions,
            space: self.space()?,
            heartbeat,
        })
    }
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
}

fn tally(connection: &Connection, at: Timestamp, policies: &Policies) -> rusqlite::Result<Tally> {
    let sql = format!("SELECT {INSTANTS}, tenant_id FROM session NOT INDEXED");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut tally = Tally::default();
    while let Some(row) = rows.next()? {
        // A tenant id that is no text of ours can have no policy of its own.
        let tenant = row.get_ref("tenant_id")?.as_str().unwrap_or_default();
        tally.add(&instants(row)?, at, policies.of_name(tenant));
    }
    Ok(tally)
}
