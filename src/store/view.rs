//! One look at the file for a command that only reads: a snapshot that stays what it is, whatever others write.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};

use super::reader::{prepare, read_only};
use super::{FileFault, StoreError, schema};
use crate::session::Instants;
use crate::time::Timestamp;

/// A read-only connection with a read transaction that lasts until it is dropped.
///
/// It keeps the WAL from beginning anew meanwhile: a command gathers what it needs, drops it, and prints then.
pub struct View {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

impl View {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path).map_err(|fault| fault.at(path))
    }

    fn connect(path: &Path) -> Result<Self, FileFault> {
        if !path.try_exists()? {
            return Err(FileFault::Missing);
        }
        let connection = Connection::open_with_flags(path, read_only())?;
        prepare(&connection)?;
        connection.execute_batch("BEGIN")?;
        schema::verify_for_writing(&connection)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Asks within the snapshot.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        question(&self.connection).map_err(|error| FileFault::from(error).at(&self.path))
    }
}

/// The columns of [`instants`], in its order.
pub(super) const INSTANTS: &str =
    "created_at, authenticated_at, last_active_at, expires_at, idle_expires_at, revoked_at";

/// What a row begins with that was asked for [`INSTANTS`].
pub(super) fn instants(row: &Row<'_>) -> rusqlite::Result<Instants> {
    let optional = |column| -> rusqlite::Result<_> {
        let millis: Option<i64> = row.get(column)?;
        Ok(millis.map(Timestamp::from_millis))
    };
    Ok(Instants {
        created_at: Timestamp::from_millis(row.get(0)?),
        authenticated_at: optional(1)?,
        last_active_at: optional(2)?,
        expires_at: Timestamp::from_millis(row.get(3)?),
        idle_expires_at: optional(4)?,
        revoked_at: optional(5)?,
    })
}

/// A text of the file, which a foreign writer may have filled with other bytes than UTF-8.
pub(super) fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<String>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}
