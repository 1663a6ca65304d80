//! Whether anybody has committed since: the one file with unsafe code.
//!
//! Two thirds of a short query are SQLite's locks, taken to begin a read transaction and given back at its end. A
//! transaction that is kept open costs neither, but it sees only what was committed before it began. So one look
//! at shared memory before each query tells whether its snapshot still is the newest: the header of the
//! wal-index, 48 bytes that every commit of every process rewrites (<https://www.sqlite.org/walformat.html>,
//! section 2.1).
//!
//! Why a snapshot whose header is unchanged is exact:
//!
//! - A commit is complete once the first copy of the header is written: SQLite writes the second copy, passes a
//!   barrier, and writes the first (`walIndexWriteHdr`). We read the first. A commit that was complete before a
//!   request arrived is therefore in what that request reads.
//! - No two commits leave the same header behind: `iChange` counts them, and a checksum over all of the header is
//!   part of it. A reset of the WAL changes its salts. A header that is read while it is written may be a mixture;
//!   a mixture that differs leads to a new snapshot, which is always right, and one that equals the old header
//!   belongs to a commit that was not complete when the request arrived.
//! - A checkpoint moves pages and changes nothing that a snapshot sees.
//! - The header is read *before* the transaction begins. A commit in between is in the snapshot, and the next look
//!   finds the header changed: a snapshot begun once too often, never one too few.
//!
//! A file that is replaced under its name changes no header; that is noticed by its inode, elsewhere.

#![allow(
    unsafe_code,
    reason = "SQLite tells of its shared memory through C pointers only"
)]

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering, fence};

use r2d2::PooledConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ffi};

/// The size of a region of the wal-index, which SQLite fixes (`WALINDEX_PGSZ`).
const REGION: i32 = 32_768;

/// The words of one copy of the header.
const WORDS: usize = 12;

/// A connection together with the shared memory of its WAL.
pub(super) struct Watched {
    /// `None` where there is none that is shared with other processes. It points into memory that is mapped for as
    /// long as `connection` is open.
    header: Option<NonNull<[AtomicU32; WORDS]>>,
    connection: PooledConnection<SqliteConnectionManager>,
}

// SAFETY: a connection may move to another thread, and the pointer is to memory that other processes write, too:
// it is read by atomic loads alone, which any thread may do.
unsafe impl Send for Watched {}

/// One copy of the header, as it was at one moment or across several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header([u32; WORDS]);

impl Watched {
    /// Finds the shared memory of `connection`, which must have read from its file already.
    pub(super) fn new(connection: PooledConnection<SqliteConnectionManager>) -> Self {
        Self {
            header: find_header(&connection),
            connection,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The header now.
    pub(super) fn header(&self) -> Option<Header> {
        let header = self.header?;
        // Whatever told us of a commit came before; the loads may not.
        fence(Ordering::SeqCst);
        // SAFETY: the region is longer than one copy of the header, aligned to a page, and mapped while the
        // connection is open, which it is until `self` is dropped: `connection()` lends it by a shared reference,
        // and closing takes more. Others write it while we read, so every word is an atomic.
        let words = unsafe { header.as_ref() };
        Some(Header(std::array::from_fn(|word| {
            words[word].load(Ordering::Acquire)
        })))
    }
}

/// Where the header of the wal-index stands in our memory.
fn find_header(connection: &Connection) -> Option<NonNull<[AtomicU32; WORDS]>> {
    let mut file: *mut ffi::sqlite3_file = null_mut();
    // SAFETY: the handle is that of an open connection, and for SQLITE_FCNTL_FILE_POINTER the argument is a place
    // for a pointer (<https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html>).
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast::<c_void>(),
        )
    };
    if code != ffi::SQLITE_OK || file.is_null() {
        return None;
    }
    // SAFETY: SQLite gave the pointer, and the file lives for as long as the connection is open. A file that was
    // never opened has no methods.
    let methods = unsafe { (*file).pMethods.as_ref() }?;
    let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
    let mut region: *mut c_void = null_mut();
    // SAFETY: this is how SQLite itself asks for the first region, and the 0 asks for no new one. The region is
    // mapped already, because the connection has read through it, and it stays where it is until the last
    // connection of this process to this file is closed (`unixShmPurge`).
    let code = unsafe { map(file, 0, REGION, 0, &raw mut region) };
    NonNull::new(region.cast()).filter(|_| code == ffi::SQLITE_OK)
}

impl Header {
    /// How many frames the WAL has: pages that wait for a checkpoint, or that a checkpoint has moved and the next
    /// reset will forget. 0 right after a reset.
    pub(super) fn frames(&self) -> u32 {
        self.0[4]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }

    /// A reader of a new file with a table, once it has read.
    fn reader(manager: SqliteConnectionManager, journal_mode: &str) -> Watched {
        let pool = r2d2::Pool::builder().max_size(1).build(manager).unwrap();
        let connection = pool.get().unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal_mode}; CREATE TABLE t (x)"
            ))
            .unwrap();
        count(&connection);
        Watched::new(connection)
    }

    #[test]
    fn every_commit_changes_the_header_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let reader = reader(SqliteConnectionManager::file(&path), "WAL");
        let writer = Connection::open(&path).unwrap();
        let mut seen = vec![reader.header().unwrap()];
        for number in 1..=300 {
            writer
                .execute("INSERT INTO t VALUES (?1)", [number])
                .unwrap();
            let header = reader.header().unwrap();
            assert!(!seen.contains(&header), "commit {number}");
            seen.push(header);
            assert_eq!(count(reader.connection()), number);
            assert_eq!(reader.header(), Some(header), "a read");
        }
        let before = reader.header().unwrap();
        writer
            .execute_batch("BEGIN; DELETE FROM t; ROLLBACK")
            .unwrap();
        assert_eq!(reader.header(), Some(before), "a transaction rolled back");
        writer
            .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
            .unwrap();
        assert_eq!(reader.header(), Some(before), "a checkpoint");
        assert!(before.frames() >= 300, "{before:?}");
        writer.execute_batch("INSERT INTO t VALUES (0)").unwrap();
        let reset = reader.header().unwrap();
        assert!(
            reset.frames() < 10 && !seen.contains(&reset),
            "the WAL began anew: {reset:?}"
        );
    }

    #[test]
    fn a_file_without_wal_has_no_header() {
        assert_eq!(
            reader(SqliteConnectionManager::memory(), "MEMORY").header(),
            None
        );
        let folder = tempfile::tempdir().unwrap();
        let manager = SqliteConnectionManager::file(folder.path().join("x.db"));
        assert_eq!(reader(manager, "DELETE").header(), None);
    }
}
