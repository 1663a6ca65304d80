//! What a worker takes from SQLite's own hands, past rusqlite; with unsafe code.
//!
//! # A statement that stays prepared
//!
//! rusqlite lends a cached statement for each query, found by its text, and copies each text that is bound. Both take
//! longer than a good part of the count. Here the statement is prepared once for the life of its connection, and
//! texts are bound where they stand: each run binds all parameters first and is over before they go.
//!
//! # Whether anybody has committed since
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
//!
//! # What a checkpoint is known by
//!
//! While a connection is open, only checkpoints write the file itself, and each tells of itself in the wal-index: how
//! far it means to come before its first page, and how far it came after its last. Who writes the file without that
//! is not SQLite.

#![allow(
    unsafe_code,
    reason = "SQLite tells of its shared memory through C pointers only"
)]

use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Instant;

use r2d2::PooledConnection;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ffi};

use super::mapped::Mapped;

/// The size of a region of the wal-index, which SQLite fixes (`WALINDEX_PGSZ`).
const REGION: i32 = 32_768;

/// The words of one copy of the header.
const WORDS: usize = 12;

/// A connection, its prepared count, and the shared memory of its WAL.
pub(super) struct Direct {
    count: Statement,
    /// `None` where pages are read by system calls.
    mapped: Option<Mapped>,
    /// `None` where there is none that is shared with other processes. It points into memory that is mapped for as
    /// long as `connection` is open.
    header: Option<NonNull<[AtomicU32; WORDS]>>,
    connection: PooledConnection<SqliteConnectionManager>,
    /// Whether the file was found to be shorter than it was, which is told once.
    was_cut: bool,
}

// SAFETY: a connection and its statements may move to another thread together, as long as no two use them at once,
// which `&mut self` and the lock around every `Direct` see to. The other pointer is to memory that other processes
// write, too: it is read by atomic loads alone, which any thread may do.
unsafe impl Send for Direct {}

/// Where the wal-index tells of checkpoints: `nBackfill` and `nBackfillAttempted`, behind two copies of the header
/// (section 2.1.1 of the same page), in words.
const DONE: usize = 24;
const ATTEMPTED: usize = 32;

/// How far the checkpoints of a WAL have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoints {
    /// Of the WAL, which are others after each reset.
    salts: [u32; 2],
    attempted: u32,
    done: u32,
}

impl Checkpoints {
    /// What the wal-index of `connection` tells now, where there is one that is shared.
    pub(super) fn of(connection: &Connection) -> Option<Self> {
        let index = find_header(connection)?;
        fence(Ordering::SeqCst);
        // SAFETY: the region is mapped while the connection is open, which it is for as long as it is borrowed, and
        // is longer than this. Others write it while we read, so every word is an atomic.
        let words = unsafe { index.cast::<[AtomicU32; ATTEMPTED + 1]>().as_ref() };
        let word = |index: usize| words[index].load(Ordering::Acquire);
        Some(Self {
            salts: [word(8), word(9)],
            done: word(DONE),
            attempted: word(ATTEMPTED),
        })
    }

    /// Whether a checkpoint is under way, or was broken off.
    pub(super) fn is_under_way(&self) -> bool {
        self.attempted != self.done
    }
}

/// One copy of the header, as it was at one moment or across several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header([u32; WORDS]);

impl Direct {
    /// Prepares `count`, a statement of one row with one integer, and finds the shared memory of `connection`, which
    /// must have read from its file already.
    pub(super) fn new(
        connection: PooledConnection<SqliteConnectionManager>,
        count: &str,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            count: Statement::prepare(&connection, count)?,
            mapped: Mapped::new(&connection),
            header: find_header(&connection),
            connection,
            was_cut: false,
        })
    }

    /// Runs the count with two texts as its first parameters and three integers or NULLs as its next.
    pub(super) fn count(
        &mut self,
        texts: [&str; 2],
        integers: [Option<i64>; 3],
    ) -> rusqlite::Result<i64> {
        let Some(mapped) = &mut self.mapped else {
            return self.count.run(texts, integers);
        };
        if let Some(count) = mapped.read(|| self.count.run(texts, integers)) {
            return count;
        }
        self.mapped = None;
        self.connection.pragma_update(None, "mmap_size", 0)?;
        self.was_cut = true;
        Err(error(ffi::SQLITE_IOERR_SHORT_READ))
    }

    /// Whether the file was cut under a count since the last call.
    pub(super) fn was_cut(&mut self) -> bool {
        std::mem::take(&mut self.was_cut)
    }

    /// What has to be done now and then.
    pub(super) fn tidy(&mut self, now: Instant) {
        if let Some(mapped) = &mut self.mapped {
            mapped.forget_old(now);
        }
    }

    #[cfg(test)]
    pub(super) fn mapped(&self) -> Option<&Mapped> {
        self.mapped.as_ref()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether SQLite prepared the count anew since the last call, as it does where the schema is no longer that for
    /// which it was prepared.
    pub(super) fn was_prepared_anew(&mut self) -> bool {
        // SAFETY: the statement is prepared, and its connection is used by nobody else meanwhile. A number of it is
        // read and set to 0.
        let times = unsafe {
            ffi::sqlite3_stmt_status(self.count.0.as_ptr(), ffi::SQLITE_STMTSTATUS_REPREPARE, 1)
        };
        times > 0
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

/// A prepared statement, finalized when dropped. Its connection outlives it: in [`Direct`] it is the later field.
struct Statement(NonNull<ffi::sqlite3_stmt>);

impl Statement {
    fn prepare(connection: &Connection, sql: &str) -> rusqlite::Result<Self> {
        let mut statement = null_mut();
        let length = c_int::try_from(sql.len()).map_err(|_| error(ffi::SQLITE_TOOBIG))?;
        // SAFETY: the handle is that of an open connection, the text and its length belong together, and the result
        // goes to a place for a pointer.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                null_mut(),
            )
        };
        check(code)?;
        NonNull::new(statement)
            .map(Self)
            .ok_or_else(|| error(ffi::SQLITE_MISUSE))
    }

    fn run(&mut self, texts: [&str; 2], integers: [Option<i64>; 3]) -> rusqlite::Result<i64> {
        let statement = self.0.as_ptr();
        for (index, text) in (1..).zip(texts) {
            let length = c_int::try_from(text.len()).map_err(|_| error(ffi::SQLITE_TOOBIG))?;
            // SAFETY: the statement is prepared and not under way. The text outlives this function, and after it the
            // statement does not look at its parameters before they are bound anew.
            check(unsafe {
                ffi::sqlite3_bind_text(
                    statement,
                    index,
                    text.as_ptr().cast(),
                    length,
                    ffi::SQLITE_STATIC(),
                )
            })?;
        }
        for (index, integer) in (3..).zip(integers) {
            // SAFETY: as above.
            check(unsafe {
                match integer {
                    Some(integer) => ffi::sqlite3_bind_int64(statement, index, integer),
                    None => ffi::sqlite3_bind_null(statement, index),
                }
            })?;
        }
        // SAFETY: the statement is prepared, and its connection is used by nobody else meanwhile. A column is read
        // only where there is a row. The reset ends the statement, and with it the use of the texts.
        let (code, count) = unsafe {
            let stepped = ffi::sqlite3_step(statement);
            let count =
                (stepped == ffi::SQLITE_ROW).then(|| ffi::sqlite3_column_int64(statement, 0));
            let ended = ffi::sqlite3_reset(statement);
            (if count.is_some() { ended } else { stepped }, count)
        };
        check(code)?;
        count.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: it was prepared by us, it is finalized once, and its connection is still open.
        unsafe { ffi::sqlite3_finalize(self.0.as_ptr()) };
    }
}

fn check(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(error(code))
    }
}

fn error(code: c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

/// The open main file of `connection`; it lives for as long as the connection is open.
pub(super) fn file_of(connection: &Connection) -> Option<NonNull<ffi::sqlite3_file>> {
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
    NonNull::new(file).filter(|_| code == ffi::SQLITE_OK)
}

/// Where the header of the wal-index stands in our memory.
fn find_header(connection: &Connection) -> Option<NonNull<[AtomicU32; WORDS]>> {
    let file = file_of(connection)?.as_ptr();
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

    /// Of a table `t (x)`, those rows with the first text, or any integer from the first on.
    const COUNT: &str =
        "SELECT count(*) FROM t WHERE (x = ?1 AND ?2 = 'and') OR x BETWEEN ?3 AND ?4 + ?5";

    fn count(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    }

    /// A reader of a new file with a table, once it has read.
    fn reader(manager: SqliteConnectionManager, journal_mode: &str) -> Direct {
        let pool = r2d2::Pool::builder().max_size(1).build(manager).unwrap();
        let connection = pool.get().unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = {journal_mode}; CREATE TABLE t (x)"
            ))
            .unwrap();
        count(&connection);
        Direct::new(connection, COUNT).unwrap()
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
    fn a_prepared_count_is_run_again_and_again_and_errors_do_not_end_it() {
        let mut reader = reader(SqliteConnectionManager::memory(), "MEMORY");
        let fill = "INSERT INTO t VALUES ('a'), ('a'), ('ä'), (1), (2), (3)";
        reader.connection().execute_batch(fill).unwrap();
        assert_eq!(reader.count(["a", "and"], [Some(9), None, None]), Ok(2));
        assert_eq!(
            reader.count(["ä", "and"], [Some(2), Some(1), Some(2)]),
            Ok(3)
        );
        assert_eq!(reader.count(["", ""], [Some(9), None, None]), Ok(0));
        reader
            .connection()
            .progress_handler(1, Some(|| true))
            .unwrap();
        let interrupted = reader
            .count(["a", "and"], [Some(0), Some(0), Some(0)])
            .unwrap_err();
        assert_eq!(
            interrupted.sqlite_error_code(),
            Some(rusqlite::ErrorCode::OperationInterrupted)
        );
        reader
            .connection()
            .progress_handler(0, None::<fn() -> bool>)
            .unwrap();
        assert_eq!(reader.count(["a", "and"], [Some(9), None, None]), Ok(2));
        assert!(
            reader.connection().execute_batch("DROP TABLE t").is_ok(),
            "nothing is under way"
        );
        assert!(reader.count(["a", "and"], [Some(9), None, None]).is_err());
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
