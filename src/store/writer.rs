//! The writing side: the one read-write connection of a command.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::Mode;
use rustix::process::umask;

use super::backup::refuse_leftovers;
use super::import::Import;
use super::{FileFault, StoreError, harden, schema};

/// How long a command waits for another writer's transaction.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The mode that a new file asks for, less the umask: a group of writers and readers may share it.
const FILE_MODE: u32 = 0o660;

/// The mode that a new file gets.
pub(super) fn new_file_mode() -> u32 {
    // It can't be read without being set.
    let mask = umask(Mode::all());
    umask(mask);
    FILE_MODE & !mask.as_raw_mode()
}

/// Makes a new, empty file, or finds that `path` already is a sessile file and leaves it as it is.
/// Returns whether a file was made.
pub fn create(path: &Path) -> Result<bool, StoreError> {
    if create_empty(path).map_err(|fault| fault.at(path))? {
        return fill(path).map(|()| true).map_err(|fault| {
            // Nobody can have used the file yet: it is ours, and it was empty.
            let _ = std::fs::remove_file(path);
            fault.at(path)
        });
    }
    match Writer::open(path) {
        Ok(_) => Ok(false),
        Err(StoreError {
            fault: FileFault::Empty | FileFault::NotSqlite | FileFault::Foreign { .. },
            ..
        }) => Err(FileFault::InTheWay.at(path)),
        Err(other) => Err(other),
    }
}

/// Makes a file of no bytes, unless there is one of any kind. Returns whether it was made.
pub(super) fn create_empty(path: &Path) -> Result<bool, FileFault> {
    if !path.try_exists()? {
        refuse_leftovers(path)?;
    }
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match opened {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn fill(path: &Path) -> Result<(), FileFault> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch(schema::SQL)?;
    schema::verify_for_writing(&connection)
}

/// A read-write connection. Its commits survive a power cut.
pub struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

impl Writer {
    /// Opens an existing sessile file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::connect(path).map_err(|fault| fault.at(path))
    }

    fn connect(path: &Path) -> Result<Self, FileFault> {
        let connection = connect(path)?;
        schema::verify_for_writing(&connection)?;
        if is_replicated(&connection)? {
            // Litestream makes the checkpoints, and asks others to make none: one between a copy of its own and its own
            // checkpoint may lose what it has not copied.
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Does `work` in one transaction: all of it, or nothing.
    pub(super) fn transact<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let Self { path, connection } = self;
        let done = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        done.map_err(|error| FileFault::from(error).at(path))
    }

    /// Whether Litestream replicates the file, or did: it then keeps a read transaction open.
    pub fn is_replicated(&self) -> Result<bool, StoreError> {
        is_replicated(&self.connection).map_err(|error| FileFault::from(error).at(&self.path))
    }

    /// Whether commits wait for the disk from now on (`FULL`) or not (`NORMAL`), so that a power cut may take them back.
    pub(super) fn set_synchronous(&self, mode: &str) -> Result<(), StoreError> {
        self.connection
            .pragma_update(None, "synchronous", mode)
            .map_err(|error| FileFault::from(error).at(&self.path))
    }

    /// From now on, what this connection deletes or replaces is overwritten with zeros.
    pub(super) fn overwrite_what_is_deleted(&self) -> Result<(), StoreError> {
        self.connection
            .pragma_update(None, "secure_delete", true)
            .map_err(|error| FileFault::from(error).at(&self.path))
    }

    /// Makes ready to take sessions in. Nothing is written before the first of them.
    pub fn import(&mut self) -> Result<Import<'_>, StoreError> {
        let Self { path, connection } = self;
        Import::new(path, connection).map_err(|error| FileFault::from(error).at(path))
    }
}

/// By the table that Litestream makes for itself.
pub(super) fn is_replicated(connection: &Connection) -> rusqlite::Result<bool> {
    connection.table_exists(None, "_litestream_seq")
}

/// A read-write connection to whatever file is there. Its commits survive a power cut.
pub(super) fn connect(path: &Path) -> Result<Connection, FileFault> {
    if !path.try_exists()? {
        return Err(FileFault::Missing);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    harden(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With NORMAL a power cut takes the last commits back, revocations among them.
    #[test]
    fn commits_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        create(&path).unwrap();
        let writer = Writer::open(&path).unwrap();
        let synchronous: i64 = writer
            .connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }
}
