//! Pages of the file read where the kernel keeps them, without waiting for a disk and without dying of a file that is
//! cut: the other file with unsafe code.
//!
//! A page that is not in a worker's own cache costs a system call and a copy, which is a good part of a count. SQLite
//! can read pages through a mapping of the file instead (`PRAGMA mmap_size`), but two things about a mapping would hurt
//! a server, and a third would make it slow:
//!
//! - *A page that is not in memory.* Touching it stops the thread until the disk has delivered, and with the thread
//!   all requests of its worker. So before a page is touched for the first time the kernel is asked whether it is
//!   resident (`mincore`); where not, the try ends with SQLITE_BUSY and the second lane counts, which may wait. What was
//!   resident, and its neighbours that were, is believed for about [`BELIEVED`]: kernels take pages away, though seldom
//!   ones in use. (To a reader who may
//!   not write the file, mincore says that all pages are resident. Such a worker may wait for a disk.)
//! - *A page that is no longer in the file.* Touching it is SIGBUS, and the end of the process. Files are cut by
//!   programs that copy over them in place, which is an operator's mistake, not a reason to stop answering. So while a
//!   worker counts, a SIGBUS inside of its mapping puts a page of zeros in the place of the missing one and remembers
//!   that it did; the count is thrown away, and the connection reads without a mapping from then on.
//! - *A mapping made anew after every commit.* SQLite takes the mapping down whenever another process has written,
//!   because POSIX lets a mapping not show what was written to its file. Linux shows it: the mapping and every read of
//!   the file are the same pages of memory. So it is kept, until it is too short.
//!
//! To do so, the methods of the connection's open file are replaced: `xFetch` and `xUnfetch` by the functions here,
//! which call SQLite's own, and the rest by themselves.

#![allow(
    unsafe_code,
    reason = "SQLite's files, their mappings and signals are C's; the proofs stand beside each block"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};

use super::direct::file_of;

/// How long a page that was resident is taken to be so still.
const BELIEVED: Duration = Duration::from_secs(1);

/// How often pages beyond the end of the mapping are asked for before the mapping is made anew.
const TOO_SHORT: usize = 64;

/// The unit of residency here: SQLite's own size of a page, unless a file was made with another.
const UNIT: usize = 4096;

/// How many units the kernel is asked about at once, and a word has bits for.
const UNITS: usize = u64::BITS as usize;

/// The open file of one connection, with its methods replaced until this is dropped. It must be dropped before its
/// connection is closed.
pub(super) struct Mapped {
    file: NonNull<ffi::sqlite3_file>,
    /// Made by `Box`, and a pointer because SQLite reads it, too.
    methods: NonNull<Methods>,
}

/// What SQLite takes for the methods of a file, and behind it what our own need.
#[repr(C)]
struct Methods {
    ours: ffi::sqlite3_io_methods,
    theirs: *const ffi::sqlite3_io_methods,
    pages: Pages,
    extent: Extent,
}

/// Which units of the file were resident lately, one bit each.
struct Pages {
    bits: Vec<u64>,
    since: Instant,
    beyond_the_end: usize,
}

/// The part of our memory that may be a mapping of the file, and what a signal did to it.
#[derive(Default)]
struct Extent {
    start: AtomicUsize,
    end: AtomicUsize,
    was_cut: AtomicBool,
}

thread_local! {
    /// The mapping that this thread reads at the moment.
    static READING: Cell<*const Extent> = const { Cell::new(null()) };
}

impl Mapped {
    /// Lets `connection` read its file through a mapping. `None` where it can't: then it reads as before.
    pub(super) fn new(connection: &Connection) -> Option<Self> {
        install_handler()?;
        let file = file_of(connection)?;
        // SAFETY: the file is open, so it has methods, which live as long as the program.
        let theirs = unsafe { (*file.as_ptr()).pMethods };
        // SAFETY: as above.
        let ours = unsafe { theirs.as_ref() }.filter(|methods| methods.iVersion >= 3)?;
        let methods = Methods {
            ours: ffi::sqlite3_io_methods {
                xFetch: Some(fetch),
                xUnfetch: Some(unfetch),
                ..*ours
            },
            theirs,
            pages: Pages {
                bits: Vec::new(),
                since: Instant::now(),
                beyond_the_end: 0,
            },
            extent: Extent::default(),
        };
        let methods = NonNull::from(Box::leak(Box::new(methods)));
        // SAFETY: the connection is ours alone and no statement of it is under way, so nobody reads the pointer while
        // it is changed. What it points to starts with the methods and lives until `drop` has changed it back.
        unsafe { (*file.as_ptr()).pMethods = methods.as_ptr().cast() };
        let mapped = Self { file, methods };
        connection.pragma_update(None, "mmap_size", i64::MAX).ok()?;
        Some(mapped)
    }

    /// Runs `count`, in which the connection may read its file. `None` where the file turned out to be cut: whatever
    /// was counted is then worth nothing, and `Mapped` of no use any more.
    pub(super) fn read<T>(&mut self, count: impl FnOnce() -> T) -> Option<T> {
        // SAFETY: made by `new`, freed by `drop`, and what the handler reads of it is atomic. SQLite's use of the rest
        // is within `count`, while nothing here is looked at.
        let extent = unsafe { &raw const (*self.methods.as_ptr()).extent };
        READING.set(extent);
        let counted = count();
        READING.set(null());
        // SAFETY: as above.
        let was_cut = unsafe { &(*extent).was_cut }.load(Ordering::Relaxed);
        (!was_cut).then_some(counted)
    }
}

impl Mapped {
    /// Asks anew for pages that were resident some time ago; to be called now and then, while nothing is read.
    pub(super) fn forget_old(&mut self, now: Instant) {
        // SAFETY: made by `new`, freed by `drop`; SQLite looks at it only while it reads, which takes this connection.
        unsafe { (*self.methods.as_ptr()).pages.forget_old(now) };
    }
}

#[cfg(test)]
impl Mapped {
    /// The length of what was read through the mapping, from the beginning of the file.
    pub(super) fn bytes(&self) -> usize {
        // SAFETY: as in `read`.
        let extent = unsafe { &(*self.methods.as_ptr()).extent };
        extent.end.load(Ordering::Relaxed) - extent.start.load(Ordering::Relaxed)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the connection is still open, so the file is, and no statement is under way, so nobody uses the
        // methods meanwhile; after it nobody has the pointer to ours any more, which `new` made by `Box`.
        unsafe {
            let methods = Box::from_raw(self.methods.as_ptr());
            (*self.file.as_ptr()).pMethods = methods.theirs;
        }
    }
}

/// `xFetch`: a pointer to a part of the file, null for SQLite to read it by itself, or an error where the disk would
/// have to be waited for.
unsafe extern "C" fn fetch(
    file: *mut ffi::sqlite3_file,
    offset: ffi::sqlite3_int64,
    length: c_int,
    page: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite calls this for the one file whose methods `Mapped::new` has replaced by such a struct, from the
    // thread that has the connection, and not from within itself: nobody else has the pages. The extent is borrowed
    // as the handler of signals borrows it, too.
    let (theirs, pages, extent) = unsafe {
        let methods = (*file).pMethods.cast_mut().cast::<Methods>();
        (
            &*(*methods).theirs,
            &mut (*methods).pages,
            &(*methods).extent,
        )
    };
    // SAFETY: their own function with their own arguments.
    let code = unsafe {
        (theirs.xFetch).map_or(ffi::SQLITE_OK, |fetch| fetch(file, offset, length, page))
    };
    // SAFETY: SQLite gave the place, and it or their function has filled it.
    let address = unsafe { *page }.addr();
    let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
        return code;
    };
    if code != ffi::SQLITE_OK || address == 0 {
        pages.beyond_the_end += 1;
        return code;
    }
    extent.cover(address - offset, address + length);
    if pages.are_resident(offset, length, address) {
        prefetch(address, length);
        return code;
    }
    // SAFETY: it gives back what was just fetched.
    unsafe {
        if let Some(unfetch) = theirs.xUnfetch {
            unfetch(file, offset as ffi::sqlite3_int64, *page);
        }
        *page = null_mut();
    }
    ffi::SQLITE_BUSY
}

/// `xUnfetch`: gives back one part of the file, or, without one, takes the mapping down.
unsafe extern "C" fn unfetch(
    file: *mut ffi::sqlite3_file,
    offset: ffi::sqlite3_int64,
    page: *mut c_void,
) -> c_int {
    // SAFETY: as in `fetch`.
    let (theirs, pages, extent) = unsafe {
        let methods = (*file).pMethods.cast_mut().cast::<Methods>();
        (
            &*(*methods).theirs,
            &mut (*methods).pages,
            &(*methods).extent,
        )
    };
    if page.is_null() && pages.beyond_the_end < TOO_SHORT {
        return ffi::SQLITE_OK;
    }
    if page.is_null() {
        pages.beyond_the_end = 0;
        // Beyond the end of the file may have been pages of another mapping.
        pages.bits.clear();
        extent.clear();
    }
    // SAFETY: their own function with their own arguments.
    unsafe { (theirs.xUnfetch).map_or(ffi::SQLITE_OK, |unfetch| unfetch(file, offset, page)) }
}

impl Pages {
    /// Forgets what was resident, once that is long ago: kernels take pages away.
    fn forget_old(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) > BELIEVED {
            self.bits.fill(0);
            self.since = now;
        }
    }

    /// Whether what is mapped at `address`, from `offset` in the file on, can be read without waiting.
    fn are_resident(&mut self, offset: usize, length: usize, address: usize) -> bool {
        let beginning = address - offset;
        (offset / UNIT..(offset + length).div_ceil(UNIT))
            .all(|unit| self.is_resident(unit, beginning))
    }

    fn is_resident(&mut self, unit: usize, beginning: usize) -> bool {
        let (word, bit) = (unit / UNITS, 1 << (unit % UNITS));
        if self.bits.get(word).is_some_and(|bits| bits & bit != 0) {
            return true;
        }
        // The neighbours are asked for in the same call: one after the other they would take 3 % of a server's time.
        let resident = resident(beginning + word * UNITS * UNIT)
            .unwrap_or_else(|| u64::from(is_in_memory(beginning + unit * UNIT)) * bit);
        if resident & bit == 0 {
            return false;
        }
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= resident;
        true
    }
}

/// Asks the processor for all lines of a page at once. A binary search asks for its header, its pointers and then one
/// cell after the other, and would wait for memory each time: half a microsecond of a count in an index of 56 MB.
#[cfg(target_arch = "x86_64")]
fn prefetch(address: usize, length: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    for line in (address..address + length).step_by(LINE) {
        // SAFETY: a hint, which neither reads nor faults, whatever is there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line as *const i8) };
    }
}

/// Other processors have no stable name for it.
#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: usize, _: usize) {}

/// Asks the kernel which of the units from `start` on are there, one bit each. `None` where not all of them are
/// mapped, as at the end of a file, or where the kernel has pages of another size.
fn resident(start: usize) -> Option<u64> {
    if page_size() != UNIT {
        return None;
    }
    let mut states = [0u8; UNITS];
    // SAFETY: the call only looks; of addresses that are not mapped it says so. There is one byte for each page.
    let code = unsafe { libc::mincore(start as *mut c_void, UNITS * UNIT, states.as_mut_ptr()) };
    let bits = states.iter().rev();
    (code == 0).then(|| bits.fold(0, |bits, state| bits << 1 | u64::from(state & 1)))
}

/// Asks the kernel whether the page of memory at `address` is there.
fn is_in_memory(address: usize) -> bool {
    let mut state = 0u8;
    let start = address & !(page_size() - 1);
    // SAFETY: as above. One page has one byte of answer.
    let code = unsafe { libc::mincore(start as *mut c_void, 1, &raw mut state) };
    code == 0 && state & 1 == 1
}

/// The kernel's, a power of two.
fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: a number is asked for.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(UNIT)
    })
}

impl Extent {
    /// Takes in a part of the mapping that starts at `start`.
    fn cover(&self, start: usize, end: usize) {
        if self.start.load(Ordering::Relaxed) != start {
            self.start.store(start, Ordering::Relaxed);
            self.end.store(end, Ordering::Relaxed);
        } else if self.end.load(Ordering::Relaxed) < end {
            self.end.store(end, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        self.start.store(0, Ordering::Relaxed);
        self.end.store(0, Ordering::Relaxed);
    }

    fn contains(&self, address: usize) -> bool {
        (self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).contains(&address)
    }
}

/// What SIGBUS did before us, for all that is not ours.
static EARLIER: OnceLock<libc::sigaction> = OnceLock::new();

/// Sees to SIGBUS from now on, once in the life of the process.
fn install_handler() -> Option<()> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let install = || {
        // SAFETY: zeros are a valid value of both structs, the empty set of signals among them; the function has the
        // signature that SA_SIGINFO asks for, and does only what a handler may.
        unsafe {
            let mut earlier: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, null(), &raw mut earlier) != 0
                || EARLIER.set(earlier).is_err()
            {
                return false;
            }
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const ours, null_mut()) == 0
        }
    };
    INSTALLED.get_or_init(install).then_some(())
}

/// SIGBUS. It interrupts a read of memory by this very thread, so it may look at what the thread has set, by atomics
/// and a thread-local without a destructor, and calls nothing but the kernel.
extern "C" fn handle(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives the information; of SIGBUS with this code it has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let extent = READING.get();
    // SAFETY: a pointer that `Mapped::read` has set is valid until it takes it back.
    if let Some(extent) = unsafe { extent.as_ref() }
        && code == libc::BUS_ADRERR
        && extent.contains(address)
    {
        let size = page_size(); // asked already, before the first mapping was read
        let place = (address & !(size - 1)) as *mut c_void;
        // SAFETY: the page lies in SQLite's mapping of the file, where nothing but file was and nothing is now. It is
        // taken down with the mapping.
        let page = unsafe {
            libc::mmap(
                place,
                size,
                libc::PROT_READ,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page != libc::MAP_FAILED {
            extent.was_cut.store(true, Ordering::Relaxed);
            return;
        }
    }
    // Not ours: as it was before us. The read happens again, and the signal with it.
    if let Some(earlier) = EARLIER.get() {
        // SAFETY: it is what the kernel told us itself.
        unsafe { libc::sigaction(libc::SIGBUS, earlier, null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::path::Path;

    use r2d2_sqlite::SqliteConnectionManager;
    use tempfile::TempDir;

    use super::super::direct::Direct;
    use super::*;

    /// All rows, whatever is bound.
    const COUNT: &str = "SELECT count(*) FROM t NOT INDEXED \
        WHERE x NOT NULL AND ?1 = ?2 AND coalesce(?3, ?4, ?5) IS NULL";

    /// A folder with a file of this many rows, each of which has a page to itself, and no WAL.
    fn filled(rows: i64) -> (TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let writer = Connection::open(folder.path().join("x.db")).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (x)",
            )
            .unwrap();
        fill(&writer, rows);
        (folder, writer)
    }

    fn fill(writer: &Connection, rows: i64) {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
            INSERT INTO t SELECT zeroblob(4000) FROM n";
        writer.execute(sql, [rows]).unwrap();
        writer
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
    }

    fn reader(folder: &Path) -> Direct {
        let manager = SqliteConnectionManager::file(folder.join("x.db"));
        let pool = r2d2::Pool::builder().max_size(1).build(manager).unwrap();
        let connection = pool.get().unwrap();
        connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .unwrap();
        Direct::new(connection, COUNT).unwrap()
    }

    /// Past the runner, which keeps the output of tests that pass to itself.
    fn skipped(reason: &str) {
        let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    }

    fn count(reader: &mut Direct) -> rusqlite::Result<i64> {
        reader.count(["", ""], [None; 3])
    }

    #[test]
    fn a_file_that_is_cut_is_an_error_and_not_the_end_of_the_process() {
        let (folder, _writer) = filled(300);
        let mut reader = self::reader(folder.path());
        assert_eq!(count(&mut reader), Ok(300));
        let file = File::options()
            .write(true)
            .open(folder.path().join("x.db"))
            .unwrap();
        let whole = std::fs::read(folder.path().join("x.db")).unwrap();
        file.set_len(8192).unwrap();
        let error = count(&mut reader).unwrap_err();
        assert_eq!(
            error.sqlite_error().map(|error| error.extended_code),
            Some(ffi::SQLITE_IOERR_SHORT_READ)
        );
        assert!(reader.mapped().is_none());
        // Whoever reads it without a mapping is told so by SQLite.
        assert!(count(&mut reader).is_err());
        drop(reader);
        std::fs::write(folder.path().join("x.db"), whole).unwrap();
        assert_eq!(count(&mut self::reader(folder.path())), Ok(300));
    }

    #[test]
    fn a_page_that_is_not_in_memory_is_not_waited_for() {
        let (folder, _writer) = filled(2_000);
        let mut reader = reader(folder.path());
        // In a process of its own: to close the file here would drop SQLite's locks of this process.
        let file = folder.path().join("x.db");
        // What is not on the disk yet can't be evicted.
        let _ = std::process::Command::new("sync").arg(&file).output();
        let evicted = std::process::Command::new("dd")
            .arg(format!("if={}", file.display()))
            .args(["iflag=nocache", "count=0"])
            .output();
        if let Err(error) = evicted {
            skipped(&format!("dd can't be run here: {error}"));
            return;
        }
        match count(&mut reader) {
            Err(error) => assert_eq!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy)
            ),
            Ok(_) => {
                skipped(&format!(
                    "the file system of {} keeps all in memory",
                    file.display()
                ));
                return;
            }
        }
        // Once somebody has waited for it, it is counted.
        let copied = std::process::Command::new("cat")
            .arg(&file)
            .output()
            .unwrap();
        assert!(copied.status.success());
        assert_eq!(count(&mut reader), Ok(2_000));
    }

    #[test]
    fn a_mapping_outlives_commits_and_grows_when_it_is_too_short() {
        let (folder, writer) = filled(100);
        let mut reader = reader(folder.path());
        assert_eq!(count(&mut reader), Ok(100));
        let extent = |reader: &Direct| reader.mapped().unwrap().bytes();
        let first = extent(&reader);
        assert!(first > 100 * 4_096);
        writer.execute("DELETE FROM t WHERE rowid = 1", []).unwrap();
        assert_eq!(count(&mut reader), Ok(99));
        assert_eq!(extent(&reader), first, "the same mapping");
        for round in 1..=4 {
            fill(&writer, 100);
            assert_eq!(count(&mut reader), Ok(99 + round * 100));
        }
        assert!(extent(&reader) > 2 * first);
    }
}
