//! Copies of the file, made while everybody reads and writes, and the way such a copy is read.
//!
//! A copy is taken by SQLite's backup API, all pages in one step: that is one read transaction, so the copy is the
//! file of one moment, and no commit of another process makes it start again, as it would a copy in several steps.
//! Nobody waits for it. Until it is done the WAL can't begin anew, so it grows by what is committed meanwhile.
//!
//! The copy gets its name only once it is whole, checked and on the disk. It is for its owner alone to read.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::reader::{prepare, read_only};
use super::{FileFault, StoreError, harden, schema};
use crate::time::Timestamp;

/// A copy that was made.
#[derive(Debug)]
pub struct BackedUp {
    pub sessions: u64,
    pub bytes: u64,
    /// A commit before this instant is in it.
    pub at: Timestamp,
}

/// Copies the live file `path` to `copy`, in the place of what is there only if `replace` says so.
pub fn back_up(path: &Path, copy: &Path, replace: bool) -> Result<BackedUp, StoreError> {
    let source = open(path).map_err(|fault| fault.at(path))?;
    copy_from(&source, path, copy, replace)
}

fn open(path: &Path) -> Result<Connection, FileFault> {
    if !path.try_exists()? {
        return Err(FileFault::Missing);
    }
    let source = Connection::open_with_flags(path, read_only())?;
    prepare(&source)?;
    schema::verify_for_writing(&source)?;
    Ok(source)
}

/// Copies the file at `path`, behind `source`, whatever its format.
pub(super) fn copy_from(
    source: &Connection,
    path: &Path,
    copy: &Path,
    replace: bool,
) -> Result<BackedUp, StoreError> {
    check_place(path, copy, replace).map_err(|fault| fault.at(copy))?;
    // In the same folder, so that it can be renamed, and with mode 0600: what is in it is personal.
    let temporary = tempfile::Builder::new()
        .prefix(".sessile-backup-")
        .tempfile_in(folder(copy))
        .map_err(|error| FileFault::from(error).at(copy))?;
    let at = Timestamp::now();
    let copied = || -> Result<u64, FileFault> {
        let mut target =
            Connection::open_with_flags(temporary.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // It is thrown away unless it is whole, and brought to the disk as a whole.
        target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
        copy_all(source, &mut target)?;
        drop(target);
        let lone = Lone::open(temporary.path())?;
        check_integrity(&lone.connection, Depth::Full)?;
        Ok(count(&lone.connection, "main")?)
    };
    let sessions = copied().map_err(|fault| {
        let place = if is_full(&fault) { copy } else { path };
        fault.at(place)
    })?;
    let placed = || -> io::Result<u64> {
        temporary.as_file().sync_all()?;
        let bytes = temporary.as_file().metadata()?.len();
        if replace {
            temporary.persist(copy)?;
        } else {
            temporary.persist_noclobber(copy)?;
        }
        sync_folder(copy)?;
        Ok(bytes)
    };
    let bytes = placed().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileFault::Exists.at(copy),
        _ => FileFault::from(error).at(copy),
    })?;
    Ok(BackedUp {
        sessions,
        bytes,
        at,
    })
}

/// Whether a copy of the file `path` may come to stand at `copy`.
fn check_place(path: &Path, copy: &Path, replace: bool) -> Result<(), FileFault> {
    if companions(path).any(|companion| is_same(&companion, copy)) || is_same(path, copy) {
        return Err(FileFault::Itself);
    }
    if fs::symlink_metadata(copy).is_ok_and(|found| !replace || found.is_dir()) {
        return Err(FileFault::Exists);
    }
    refuse_leftovers(copy)
}

/// A new file must not come to stand beside a companion with contents: they would be taken for its newest commits.
pub(super) fn refuse_leftovers(path: &Path) -> Result<(), FileFault> {
    match unfinished(path) {
        Some(companion) => Err(FileFault::Leftover { companion }),
        None => Ok(()),
    }
}

pub(super) fn is_full(fault: &FileFault) -> bool {
    matches!(
        fault,
        FileFault::Sqlite(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    )
}

/// Makes `target` a copy of `source`.
pub(super) fn copy_all(source: &Connection, target: &mut Connection) -> Result<(), FileFault> {
    finish(&Backup::new(source, target)?)
}

/// Copies all that is left to copy.
pub(super) fn finish(backup: &Backup<'_, '_>) -> Result<(), FileFault> {
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(busy()),
    }
}

/// What SQLite's backup API says by a code of its own.
pub(super) fn busy() -> FileFault {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    FileFault::Locked(rusqlite::Error::SqliteFailure(code, None))
}

/// How closely a file is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every page, and whether each index has what its table has.
    Full,
    /// Every page; an entry that stands in the wrong place of an index may be missed.
    Quick,
}

/// Reads the whole file and finds whether its pages make sense.
pub(super) fn check_integrity(connection: &Connection, depth: Depth) -> Result<(), FileFault> {
    // One finding is enough, and SQLite stops at it.
    first_finding(
        connection,
        match depth {
            Depth::Full => "integrity_check(1)",
            Depth::Quick => "quick_check(1)",
        },
    )
}

/// The same for the table of sessions and its indexes alone, and in full.
pub(super) fn check_sessions(connection: &Connection) -> Result<(), FileFault> {
    first_finding(connection, "integrity_check(session)")
}

fn first_finding(connection: &Connection, pragma: &str) -> Result<(), FileFault> {
    let found: String = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(FileFault::Damaged {
            // The first line may only say in which database something was found.
            found: found
                .lines()
                .find(|line| !line.starts_with("***"))
                .unwrap_or(&found)
                .to_owned(),
        }),
    }
}

/// How many sessions the database `name` of the connection has.
pub(super) fn count(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM {name}.session");
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// A file that nobody has open, read as it lies: no lock is taken, nothing is written, and no -wal or -shm comes to
/// stand beside it, wherever it lies.
///
/// That is what `immutable` means to SQLite. It minds no WAL then, so a file that has one is refused; and since
/// nothing keeps others from writing meanwhile, whoever has read asks [`Lone::is_unchanged`] before it uses what it
/// read.
pub(super) struct Lone {
    pub(super) connection: Connection,
    path: PathBuf,
    seen: Metadata,
}

impl Lone {
    pub(super) fn open(path: &Path) -> Result<Self, FileFault> {
        if !path.try_exists()? {
            return Err(FileFault::Missing);
        }
        if let Some(companion) = unfinished(path) {
            return Err(FileFault::NotAlone { companion });
        }
        let seen = fs::metadata(path)?;
        let connection = Connection::open_with_flags(
            uri(path, "immutable=1"),
            read_only() | OpenFlags::SQLITE_OPEN_URI,
        )?;
        harden(&connection)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            seen,
        })
    }

    pub(super) fn is_unchanged(&self) -> bool {
        let stamp = |file: &Metadata| {
            let changed = (file.mtime(), file.mtime_nsec());
            (file.dev(), file.ino(), file.size(), changed)
        };
        unfinished(&self.path).is_none()
            && fs::metadata(&self.path).is_ok_and(|found| stamp(&found) == stamp(&self.seen))
    }
}

/// A companion of the file that holds some of its contents.
pub(super) fn unfinished(path: &Path) -> Option<PathBuf> {
    companions(path).find(|companion| {
        !companion.as_os_str().as_bytes().ends_with(b"-shm")
            && fs::metadata(companion).is_ok_and(|found| found.len() > 0)
    })
}

/// What SQLite puts beside a file. Like SQLite, this follows a symbolic link to the file first.
pub fn companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    ["-wal", "-shm", "-journal"]
        .into_iter()
        .map(move |suffix| with_suffix(&real, suffix))
}

/// The path with `suffix` behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether both paths lead to one and the same file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match (inode(one), inode(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => std::path::absolute(one).ok() == std::path::absolute(other).ok(),
    }
}

/// The folder that `path` stands in.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Brings the names in the folder of `path` to the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// The file as SQLite's URI with `parameters`, whatever bytes its path has.
pub(super) fn uri(path: &Path, parameters: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');
    let path = percent_encode(path.as_os_str().as_bytes(), ESCAPED);
    format!("file:{path}?{parameters}")
}
