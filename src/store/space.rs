//! The room that the file takes on the disk: how much it is.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::Connection;

use super::{FileFault, StoreError, View};
use crate::time::Timestamp;

/// What the file takes on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub file: u64,
    pub wal: u64,
    /// What of the file is in pages that hold nothing, and that new sessions will fill.
    pub free: u64,
    /// When the file or its WAL was last written, by whomever.
    pub written_at: Timestamp,
}

impl Space {
    pub(super) fn of(path: &Path, connection: &Connection) -> Result<Self, FileFault> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let free = pragma("freelist_count")? * pragma("page_size")?;
        // Like SQLite, this looks for the WAL beside the file itself, not beside a symbolic link to it.
        let real = path.canonicalize()?;
        let file = fs::metadata(&real)?;
        let mut wal = real.into_os_string();
        wal.push("-wal");
        let wal = match fs::metadata(wal) {
            Ok(wal) => Some(wal),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        // Whoever opens the file makes an empty WAL: that is no write.
        let wal = wal.filter(|wal| wal.len() > 0);
        let mut written_at = file.modified()?;
        if let Some(wal) = &wal {
            written_at = written_at.max(wal.modified()?);
        }
        Ok(Self {
            file: file.len(),
            wal: wal.map_or(0, |wal| wal.len()),
            free: free.unsigned_abs(),
            written_at: written_at.into(),
        })
    }
}

impl View {
    pub fn space(&self) -> Result<Space, StoreError> {
        Space::of(&self.path, &self.connection).map_err(|fault| fault.at(&self.path))
    }
}
