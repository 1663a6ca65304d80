//! Sessions into the file, each in the place of the one with its tenant and id.

use std::path::Path;

use roaring::RoaringTreemap;
use rusqlite::{Connection, OptionalExtension, Statement, ToSql, Transaction, TransactionBehavior};

use super::audit::{self, Entry};
use super::progress::{self, Progress};
use super::{FileFault, StoreError};
use crate::session::{Session, TenantId};
use crate::time::Timestamp;

/// The most memory for pages, in KiB. Sessions come with random ids, so that each of a large file touches pages all
/// over its indexes, and a page that was pushed out is read again.
const CACHE: i64 = 256 * 1024;

/// What is said in the audit.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    pub words: &'a str,
    pub tenant: Option<&'a TenantId<'static>>,
}

/// An import under way: one transaction, or several one after the other. Dropped without a commit, it has changed
/// nothing since the last.
pub struct Import<'w> {
    path: &'w Path,
    connection: &'w Connection,
    insert: Statement<'w>,
    find: Statement<'w>,
    replace: Statement<'w>,
    /// Begins with the first session that is put.
    transaction: Option<Transaction<'w>>,
    /// The rows that this input has made or replaced: a few bits each, however many there are.
    touched: RoaringTreemap,
    /// As of which the numbers of these rows hold: VACUUM and a restore, which give rows other numbers, count it up.
    schema_version: i64,
    /// How many sessions were changed.
    changed: u64,
    /// The row of the audit, once it is there.
    audit: Option<i64>,
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
    pub(super) fn new(path: &'w Path, connection: &'w Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "cache_size", -CACHE)?;
        Ok(Self {
            path,
            connection,
            insert: connection.prepare(INSERT)?,
            find: connection.prepare(FIND)?,
            replace: connection.prepare(REPLACE)?,
            transaction: None,
            touched: RoaringTreemap::new(),
            schema_version: schema_version(connection)?,
            changed: 0,
            audit: None,
        })
    }

    /// Writes one session. It replaces the row with its tenant and id, every column, except that an ended
    /// session stays ended: of the two ends the earlier holds, with its reason.
    pub fn put(&mut self, session: &Session) -> Result<Put, StoreError> {
        self.begin()
            .and_then(|()| Ok(self.insert_or_replace(session)?))
            .map_err(|fault| fault.at(self.path))
    }

    /// Notes a session that an earlier run of the same import has put, and says what is wrong with it, as
    /// [`Import::put`] did then.
    pub fn put_before(&mut self, session: &Session) -> Result<Put, StoreError> {
        self.judge(session)
            .map(|(put, _)| put)
            .map_err(|error| FileFault::from(error).at(self.path))
    }

    /// Lets every session be put again, replacing itself.
    pub fn forget_ids(&mut self) {
        self.touched.clear();
    }

    fn begin(&mut self) -> Result<(), FileFault> {
        if self.transaction.is_some() {
            return Ok(());
        }
        let transaction =
            Transaction::new_unchecked(self.connection, TransactionBehavior::Immediate)?;
        if !self.touched.is_empty() && schema_version(self.connection)? != self.schema_version {
            return Err(FileFault::Rebuilt);
        }
        self.transaction = Some(transaction);
        Ok(())
    }

    /// Whether something was put that is not committed.
    pub fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    fn insert_or_replace(&mut self, session: &Session) -> rusqlite::Result<Put> {
        let insert = &mut self.insert;
        insert.raw_bind_parameter(1, session.tenant_id.as_str())?;
        insert.raw_bind_parameter(2, session.id.as_str())?;
        bind(insert, session)?;
        if insert.raw_execute()? == 1 {
            self.touched
                .insert(self.connection.last_insert_rowid().cast_unsigned());
            self.changed += 1;
            return Ok(Put::New);
        }
        let (put, row) = self.judge(session)?;
        if put == Put::Replaced {
            let replace = &mut self.replace;
            replace.raw_bind_parameter(1, row)?;
            bind(replace, session)?;
            replace.raw_execute()?;
            self.changed += 1;
        }
        Ok(put)
    }

    /// What becomes of a session, given the row with its tenant and id, and that row; [`Put::New`] where there is
    /// none.
    fn judge(&mut self, session: &Session) -> rusqlite::Result<(Put, i64)> {
        let key = (session.tenant_id.as_str(), session.id.as_str());
        let found = self
            .find
            .query_row(key, |row| {
                let user = row.get_ref(1)?.as_str()?;
                let other = (user != session.user_id.as_str()).then(|| user.to_owned());
                Ok((row.get::<_, i64>(0)?, other))
            })
            .optional()?;
        let Some((row, other)) = found else {
            return Ok((Put::New, 0));
        };
        let put = match other {
            _ if self.touched.contains(row.cast_unsigned()) => Put::Twice,
            Some(user) => Put::OtherUser(user),
            None => {
                self.touched.insert(row.cast_unsigned());
                Put::Replaced
            }
        };
        Ok((put, row))
    }

    /// Ends every session of `tenant` that was not put; returns how many.
    pub fn end_others(
        &mut self,
        tenant: &TenantId<'_>,
        at: Timestamp,
        reason: &str,
    ) -> Result<u64, StoreError> {
        self.begin()
            .and_then(|()| Ok(self.revoke_untouched(tenant, at, reason)?))
            .map_err(|fault| fault.at(self.path))
    }

    fn revoke_untouched(
        &mut self,
        tenant: &TenantId<'_>,
        at: Timestamp,
        reason: &str,
    ) -> rusqlite::Result<u64> {
        let mut select = self
            .connection
            .prepare("SELECT rowid FROM session WHERE tenant_id = ?1 AND revoked_at IS NULL")?;
        // All are found before the first is changed, which takes it out of the index that finds them.
        let mut others = RoaringTreemap::new();
        let mut rows = select.query([tenant.as_str()])?;
        while let Some(row) = rows.next()? {
            others.insert(row.get::<_, i64>(0)?.cast_unsigned());
        }
        others -= &self.touched;
        let mut revoke = self
            .connection
            .prepare("UPDATE session SET revoked_at = ?2, revoke_reason = ?3 WHERE rowid = ?1")?;
        for row in &others {
            revoke.execute((row.cast_signed(), at.as_millis(), reason))?;
        }
        self.changed += others.len();
        Ok(others.len())
    }

    /// How far an import in parts of `input` has come that was not finished.
    pub fn progress(&self, input: &str) -> Result<Option<Progress>, StoreError> {
        progress::load(self.connection, input).map_err(|error| FileFault::from(error).at(self.path))
    }

    /// Goes from one state of an import in parts to the next, `None` being no row, in the transaction that is open.
    /// Returns whether the row was as `before` says.
    pub fn move_progress(
        &mut self,
        input: &str,
        before: Option<&Progress>,
        now: Option<&Progress>,
    ) -> Result<bool, StoreError> {
        self.begin()
            .and_then(|()| Ok(progress::store(self.connection, input, before, now)?))
            .map_err(|fault| fault.at(self.path))
    }

    /// Commits what was put, with its row of the audit.
    pub fn commit(&mut self, scope: Scope<'_>) -> Result<(), StoreError> {
        self.begin()
            .and_then(|()| Ok(self.record(scope)?))
            .and_then(|()| {
                Ok(self
                    .transaction
                    .take()
                    .map_or(Ok(()), Transaction::commit)?)
            })
            .map_err(|fault| fault.at(self.path))
    }

    fn record(&mut self, scope: Scope<'_>) -> rusqlite::Result<()> {
        if let Some(row) = self.audit {
            return audit::amend(self.connection, row, self.changed);
        }
        let entry = Entry {
            command: "import",
            scope: scope.words,
            tenant: scope.tenant,
            sessions: self.changed,
        };
        audit::record(self.connection, &entry)?;
        self.audit = Some(self.connection.last_insert_rowid());
        Ok(())
    }
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "schema_version", |row| row.get(0))
}

const INSERT: &str = "\
    INSERT INTO session (tenant_id, id, user_id, created_at, authenticated_at, last_active_at, expires_at,
                         idle_expires_at, revoked_at, revoke_reason, amr, device_id, device_type, ip,
                         user_agent, geoip)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
    ON CONFLICT (tenant_id, id) DO NOTHING";

const FIND: &str = "SELECT rowid, user_id FROM session WHERE tenant_id = ?1 AND id = ?2";

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
    WHERE rowid = ?1";

/// Binds every column but the first two, which both statements number alike.
fn bind(statement: &mut Statement<'_>, session: &Session) -> rusqlite::Result<()> {
    let millis = |instant: Option<Timestamp>| instant.map(Timestamp::as_millis);
    let columns: [&dyn ToSql; 14] = [
        &session.user_id.as_str(),
        &session.created_at.as_millis(),
        &millis(session.authenticated_at),
        &millis(session.last_active_at),
        &session.expires_at.as_millis(),
        &millis(session.idle_expires_at),
        &millis(session.revoked_at),
        &session.revoke_reason.as_deref(),
        &session.amr.as_deref(),
        &session.device_id.as_deref(),
        &session.device_type.as_deref(),
        &session.ip.as_deref(),
        &session.user_agent.as_deref(),
        &session.geoip.as_deref(),
    ];
    for (index, value) in columns.into_iter().enumerate() {
        statement.raw_bind_parameter(index + 3, value)?;
    }
    Ok(())
}
