//! Sessions into the file, each in the place of the one with its tenant and id.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::audit::{Entry, record};
use super::{FileFault, StoreError};
use crate::session::Session;
use crate::time::Timestamp;

/// An import under way.
pub struct Import<'w> {
    path: &'w Path,
    transaction: Transaction<'w>,
    /// The largest rowid before the import: a row beyond it is one of this input.
    newest_row: i64,
    /// The rows from before the import that this input has replaced.
    replaced: HashSet<i64>,
    /// How many sessions were put.
    sessions: u64,
}

/// What became of a session that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    Replaced,
    /// Nothing: its tenant and id stood earlier in the same input.
    Twice,
    /// Nothing: the file has this tenant and id for this other user.
    OtherUser(String),
}

impl<'w> Import<'w> {
    pub(super) fn begin(path: &'w Path, connection: &'w mut Connection) -> rusqlite::Result<Self> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let newest_row =
            transaction.query_row("SELECT coalesce(max(rowid), 0) FROM session", [], |row| {
                row.get(0)
            })?;
        Ok(Self {
            path,
            transaction,
            newest_row,
            replaced: HashSet::new(),
            sessions: 0,
        })
    }

    /// Writes one session. It replaces the row with its tenant and id, every column, except that an ended
    /// session stays ended: of the two ends the earlier holds, with its reason.
    pub fn put(&mut self, session: &Session) -> Result<Put, StoreError> {
        let put = self
            .insert_or_replace(session)
            .map_err(|error| FileFault::from(error).at(self.path))?;
        self.sessions += u64::from(matches!(put, Put::New | Put::Replaced));
        Ok(put)
    }

    fn insert_or_replace(&mut self, session: &Session) -> rusqlite::Result<Put> {
        let key = (session.tenant_id.as_str(), session.id.as_str());
        if self
            .transaction
            .prepare_cached(INSERT)?
            .execute(columns(session))?
            == 1
        {
            return Ok(Put::New);
        }
        let (row, user): (i64, String) = self
            .transaction
            .prepare_cached("SELECT rowid, user_id FROM session WHERE tenant_id = ?1 AND id = ?2")?
            .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if row > self.newest_row || self.replaced.contains(&row) {
            return Ok(Put::Twice);
        }
        if user != session.user_id.as_str() {
            return Ok(Put::OtherUser(user));
        }
        self.transaction
            .prepare_cached(REPLACE)?
            .execute(columns(session))?;
        self.replaced.insert(row);
        Ok(Put::Replaced)
    }

    pub fn commit(self) -> Result<(), StoreError> {
        let entry = Entry {
            command: "import",
            scope: "sessions of an input",
            tenant: None,
            sessions: self.sessions,
        };
        record(&self.transaction, &entry)
            .and_then(|()| self.transaction.commit())
            .map_err(|error| FileFault::from(error).at(self.path))
    }
}

const INSERT: &str = "\
    INSERT INTO session (tenant_id, id, user_id, created_at, authenticated_at, last_active_at, expires_at,
                         idle_expires_at, revoked_at, revoke_reason, amr, device_id, device_type, ip,
                         user_agent, geoip)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
    ON CONFLICT (tenant_id, id) DO NOTHING";

/// In an UPDATE, the column names to the right of `=` are the row's old values.
const REPLACE: &str = "\
    UPDATE session SET
        user_id = ?3, created_at = ?4, authenticated_at = ?5, last_active_at = ?6, expires_at = ?7,
        idle_expires_at = ?8,
        revoked_at = CASE WHEN revoked_at <= ?9 OR ?9 IS NULL THEN revoked_at ELSE ?9 END,
        revoke_reason = CASE
            WHEN revoked_at = ?9 THEN coalesce(revoke_reason, ?10)
            WHEN revoked_at < ?9 OR (revoked_at IS NOT NULL AND ?9 IS NULL) THEN revoke_reason
            ELSE ?10 END,
        amr = ?11, device_id = ?12, device_type = ?13, ip = ?14, user_agent = ?15, geoip = ?16
    WHERE tenant_id = ?1 AND id = ?2";

/// The values of a row, in the order that both statements number them.
fn columns(session: &Session) -> impl rusqlite::Params {
    fn millis(instant: Option<Timestamp>) -> Option<i64> {
        instant.map(Timestamp::as_millis)
    }
    (
        session.tenant_id.as_str(),
        session.id.as_str(),
        session.user_id.as_str(),
        session.created_at.as_millis(),
        millis(session.authenticated_at),
        millis(session.last_active_at),
        session.expires_at.as_millis(),
        millis(session.idle_expires_at),
        millis(session.revoked_at),
        session.revoke_reason.as_deref(),
        session.amr.as_deref(),
        session.device_id.as_deref(),
        session.device_type.as_deref(),
        session.ip.as_deref(),
        session.user_agent.as_deref(),
        session.geoip.as_deref(),
    )
}
