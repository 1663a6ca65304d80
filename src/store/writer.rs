//! The writing side: the one read-write connection of a command.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{FileFault, StoreError, harden, schema};
use crate::session::Session;
use crate::time::Timestamp;

/// How long a command waits for another writer's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The mode that a new file asks for, less the umask: a group of writers and readers may share it.
const FILE_MODE: u32 = 0o660;

/// Makes a new, empty file, or finds that `path` already is a sessile file and leaves it as it is.
/// Returns whether a file was made.
pub fn create(path: &Path) -> Result<bool, StoreError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
    {
        Ok(_) => fill(path).map(|()| true).map_err(|fault| {
            // Nobody can have used the file yet: it is ours, and it was empty.
            let _ = std::fs::remove_file(path);
            fault.at(path)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            match Writer::open(path) {
                Ok(_) => Ok(false),
                Err(StoreError {
                    fault: FileFault::Empty | FileFault::NotSqlite | FileFault::Foreign { .. },
                    ..
                }) => Err(FileFault::InTheWay.at(path)),
                Err(other) => Err(other),
            }
        }
        Err(error) => Err(FileFault::from(error).at(path)),
    }
}

fn fill(path: &Path) -> Result<(), FileFault> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(schema::SQL)?;
    schema::verify(&connection)
}

/// A read-write connection. Its commits survive a power cut.
pub struct Writer {
    path: PathBuf,
    connection: Connection,
}

impl Writer {
    /// Opens an existing sessile file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path).map_err(|fault| fault.at(path))
    }

    fn connect(path: &Path) -> Result<Self, FileFault> {
        if !path.try_exists()? {
            return Err(FileFault::Missing);
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        harden(&connection)?;
        schema::verify(&connection)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Begins the one transaction of an import. Dropped without a commit, it has changed nothing.
    pub fn import(&mut self) -> Result<Import<'_>, StoreError> {
        let Self { path, connection } = self;
        Import::begin(path, connection).map_err(|error| FileFault::from(error).at(path))
    }
}

/// An import under way.
pub struct Import<'w> {
    path: &'w Path,
    transaction: Transaction<'w>,
    /// The largest rowid before the import: a row beyond it is one of this input.
    newest_row: i64,
    /// The rows from before the import that this input has replaced.
    replaced: HashSet<i64>,
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
    fn begin(path: &'w Path, connection: &'w mut Connection) -> rusqlite::Result<Self> {
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
        })
    }

    /// Writes one session. It replaces the row with its tenant and id, every column, except that an ended
    /// session stays ended: of the two ends the earlier holds, with its reason.
    pub fn put(&mut self, session: &Session) -> Result<Put, StoreError> {
        self.insert_or_replace(session)
            .map_err(|error| FileFault::from(error).at(self.path))
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
        self.transaction
            .commit()
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
