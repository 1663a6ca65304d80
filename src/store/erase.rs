//! The erasure of a user: every row, and every trace of it in the file.

use rusqlite::Connection;

use super::audit::{Entry, record};
use super::{StoreError, Writer};
use crate::session::{TenantId, UserId};

impl Writer {
    /// Deletes every session of `user` in `tenant`, and overwrites with zeros what they took in the file. Returns how
    /// many there were.
    ///
    /// Two kinds of traces remain for [`Writer::vacuum`] and [`Writer::empty_wal`], in this order: what earlier changes
    /// of those rows, by programs without `secure_delete`, left between other rows; and older pages in the WAL.
    pub fn erase(&mut self, tenant: &TenantId<'_>, user: &UserId<'_>) -> Result<u64, StoreError> {
        self.overwrite_what_is_deleted()?;
        self.transact(|connection| {
            let sessions = connection.execute(DELETE, (tenant.as_str(), user.as_str()))? as u64;
            forget_samples(connection)?;
            let entry = Entry {
                command: "delete",
                scope: "all sessions of one user",
                tenant: Some(tenant),
                sessions,
            };
            record(connection, &entry)?;
            Ok(sessions)
        })
    }
}

/// Reading the table once is ten times quicker than following the primary key through all of a large tenant, and the
/// index knows nothing of revoked sessions.
const DELETE: &str = "DELETE FROM session NOT INDEXED WHERE tenant_id = ?1 AND user_id = ?2";

/// `ANALYZE`, where SQLite is built so, keeps sample keys of each index, user ids among them. No statement of ours
/// needs them, and the next `ANALYZE` takes new ones.
fn forget_samples(connection: &Connection) -> rusqlite::Result<()> {
    if connection.table_exists(None, "sqlite_stat4")? {
        connection.execute("DELETE FROM sqlite_stat4 WHERE tbl = 'session'", [])?;
    }
    Ok(())
}
