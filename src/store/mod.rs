//! SQLite: the file, its schema, how it is read and how it is written. Knows no HTTP.
//!
//! - [`schema`]: what a file must be before an answer is given from it.
//! - [`reader`]: counts over a pool of read-only connections; notices a replaced file.
//! - [`lane`]: a worker's own connection of that pool, for the counts that take microseconds.
//! - [`place`]: what the path of the file leads to, and whether it still does.
//! - [`direct`]: a worker's count past rusqlite, and whether anybody has committed since. [`mapped`]: how it reads
//!   pages. These two have unsafe code.
//! - [`writer`]: the one read-write connection of a command. [`import`]: how sessions get in by it.
//! - [`progress`]: how far an import in parts has come. [`rows`]: all sessions, for an export.
//! - [`audit`]: what the commands changed, told by themselves.
//! - [`backup`]: copies of the file, and what reads them. [`restore`]: a copy back into the file.
//! - [`health`]: what is wrong with a file. [`integrity`]: the same question, asked in the background.
//! - [`migrations`]: files of older formats brought up to this program's.
//! - [`revoke`], [`purge`], [`erase`]: how they end and get out. [`space`]: the room that the file takes.
//! - [`census`]: how many sessions are active, counted in the background. [`usage`]: what is counted of the reader.
//! - [`view`]: one snapshot for a command that only reads. [`explain`] and [`survey`]: what it finds there.

pub mod audit;
pub mod backup;
pub mod census;
mod direct;
mod erase;
pub mod explain;
pub mod health;
pub mod heartbeat;
pub mod import;
pub mod integrity;
pub mod lane;
mod mapped;
pub mod migrations;
mod place;
pub mod progress;
pub mod purge;
pub mod reader;
pub mod restore;
pub mod revoke;
pub mod rows;
pub mod schema;
pub mod space;
pub mod survey;
pub mod swap;
mod usage;
pub mod view;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::time::Timestamp;

pub use lane::Lane;
pub use reader::{Options, Reader, Snapshot};
pub use usage::Usage;
pub use view::View;
pub use writer::Writer;

/// What went wrong with the data file: one sentence that names the file and, where something can be done,
/// what to do. It holds a path, so it belongs in a log or on a terminal; [`FileFault::summary`] is for others.
#[derive(Debug, Error)]
#[error("{path}: {fault}", path = path.display())]
pub struct StoreError {
    pub path: PathBuf,
    pub fault: FileFault,
}

/// The fault itself.
#[derive(Debug, Error)]
pub enum FileFault {
    #[error("there is no such file; `sessile init` makes one")]
    Missing,
    #[error("it exists already and is not a sessile file; name another path, or move it away")]
    InTheWay,
    #[error("it can't be opened: {0}; look at the owner and mode of the file and of its directory")]
    Unopenable(#[source] rusqlite::Error),
    #[error("it is not a SQLite database")]
    NotSqlite,
    #[error("it is damaged: {found}; `sessile restore BACKUP` puts a backup in its place")]
    Damaged { found: String },
    #[error("it is an empty database; `sessile init` makes a new file where there is none")]
    Empty,
    #[error(
        "it is the database of another program (application_id {found:#010X}, not {expected:#010X})"
    )]
    Foreign { found: i32, expected: i32 },
    #[error(
        "its format is {found}, which is newer than the format {known} that this program knows; install a newer sessile"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "its format is {found}, which is older than the format {known} of this program; `sessile init --upgrade` brings it up"
    )]
    Older { found: i32, known: i32 },
    #[error(
        "its format is {found}, which is older than the format {known} of this program; \
         `sessile init --upgrade --database COPY` brings up a copy of it, which then can be restored"
    )]
    OlderBackup { found: i32, known: i32 },
    #[error(
        "it has a {object} of its owner's, a name that format {format} needs; rename that one first"
    )]
    NameTaken { object: &'static str, format: i32 },
    #[error(
        "its {object} is not that of schema.sql; make a new file with `sessile init` and import the sessions into it"
    )]
    Misshapen { object: &'static str },
    #[error(
        "its journal mode is {found}, not WAL, so readers and writers would wait for each other; \
         run `sqlite3 FILE 'PRAGMA journal_mode = WAL'`"
    )]
    NotWal { found: String },
    #[error("it exists already; --force replaces it")]
    Exists,
    #[error("it is the data file itself; name another path")]
    Itself,
    #[error(
        "beside it stands {}, so it is in use, or was copied while it was; \
         `sessile backup --database FILE COPY` makes a copy of it that stands alone", companion.display()
    )]
    NotAlone { companion: PathBuf },
    #[error(
        "{} has {bytes} bytes, so somebody writes here, and would go on in a file that is gone; \
         `sessile restore COPY` puts a copy into a file that is written", companion.display()
    )]
    Written { companion: PathBuf, bytes: u64 },
    #[error(
        "{}, and the heartbeat of the file that is served is of {old}; --force swaps it in all the same",
        match new {
            Some(new) => format!("its heartbeat is of {new}"),
            None => "it has no heartbeat".to_owned(),
        }
    )]
    Outdated {
        new: Option<Timestamp>,
        old: Timestamp,
    },
    #[error(
        "it can't be given to the user {user} and the group {group}, to whom the file that is served belongs: {error}; \
         run this as that user"
    )]
    NotToGive {
        user: u32,
        group: u32,
        error: std::io::Error,
    },
    #[error("it is on another file system than {}; copy it into the folder of that first", path.display())]
    ElsewhereThan { path: PathBuf },
    #[error(
        "its pages have {found} bytes and those of the backup {backup}; run `sqlite3 COPY 'PRAGMA journal_mode = DELETE; \
         PRAGMA page_size = {found}; VACUUM'` on a copy of the backup, which then can be restored"
    )]
    PageSize { found: i64, backup: i64 },
    #[error(
        "{} is left of another file, and SQLite would take it for a part of this one; move it away", companion.display()
    )]
    Leftover { companion: PathBuf },
    #[error(
        "there is no room for a private copy of it in the folder for temporary files; name another by SQLITE_TMPDIR"
    )]
    NoRoom,
    #[error(
        "it was written over by a program that is not SQLite; until it has been left alone for half a second, nothing is \
         read from it"
    )]
    Overwritten,
    #[error("{0}")]
    Still(Arc<FileFault>),
    #[error("the disk has no room for its -shm, which every reader needs: {0}")]
    DiskFull(#[source] rusqlite::Error),
    #[error("it changed while it was read")]
    Changed,
    #[error(
        "{column} of the session {session:?} of tenant {tenant:?} is not text in UTF-8; put it right with SQL"
    )]
    NotText {
        column: String,
        tenant: String,
        session: String,
    },
    #[error(
        "it was rebuilt between two parts of an import, by VACUUM, a restore or a change of its schema; \
         go on with `sessile import --resume`"
    )]
    Rebuilt,
    #[error("it was replaced again and again while it was read")]
    Unsteady,
    #[error("all connections to it were busy for too long")]
    Crowded,
    #[error("no connection to it came free: {0}")]
    Pool(#[from] r2d2::Error),
    #[error("it is locked by another process")]
    Locked(#[source] rusqlite::Error),
    #[error("{0}")]
    Sqlite(#[source] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the thread that asked it stopped: a bug")]
    Task(#[from] tokio::task::JoinError),
}

impl FileFault {
    /// The fault in two or three words that name no path, for `/readyz`.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Missing => "file missing",
            Self::InTheWay | Self::Exists | Self::Itself => "file exists",
            Self::Damaged { .. } => "file damaged",
            Self::Unopenable(_) | Self::NotToGive { .. } | Self::Io(_) => "file can't be opened",
            Self::NotSqlite => "not a SQLite database",
            Self::Empty | Self::Foreign { .. } | Self::Misshapen { .. } => "not a sessile file",
            Self::Newer { .. }
            | Self::Older { .. }
            | Self::OlderBackup { .. }
            | Self::NameTaken { .. }
            | Self::PageSize { .. } => "file of another format",
            Self::NotWal { .. } => "journal mode is not WAL",
            Self::NotAlone { .. } | Self::Written { .. } => "file in use",
            Self::Outdated { .. } => "file outdated",
            Self::ElsewhereThan { .. } => "another file system",
            Self::Leftover { .. } => "-wal of another file",
            Self::Overwritten => "file written over",
            Self::Still(fault) => fault.summary(),
            Self::Rebuilt => "file rebuilt",
            Self::Unsteady | Self::Changed => "file replaced repeatedly",
            Self::Crowded | Self::Pool(_) => "no connection free",
            Self::Locked(_) => "file locked",
            Self::NoRoom | Self::DiskFull(_) => "disk full",
            Self::Sqlite(_) | Self::Task(_) | Self::NotText { .. } => "query failed",
        }
    }

    /// Whether the file holds what it should not, or less than it should.
    fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::SystemIoFailure;
        match self {
            Self::NotSqlite | Self::Damaged { .. } => true,
            Self::Still(fault) => fault.is_damage(),
            Self::Sqlite(error) => error.sqlite_error_code() == Some(SystemIoFailure),
            _ => false,
        }
    }

    pub fn at(self, path: &Path) -> StoreError {
        StoreError {
            path: path.to_owned(),
            fault: self,
        }
    }
}

impl From<rusqlite::Error> for FileFault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let extended = error.sqlite_error().map(|error| error.extended_code);
        if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::DiskFull(error);
        }
        match error.sqlite_error_code() {
            Some(Code::NotADatabase) => Self::NotSqlite,
            Some(Code::DatabaseCorrupt) => Self::Damaged {
                found: error.to_string(),
            },
            Some(Code::CannotOpen | Code::PermissionDenied | Code::ReadOnly) => {
                Self::Unopenable(error)
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => Self::Locked(error),
            _ => Self::Sqlite(error),
        }
    }
}

/// Settings that every connection of ours gets: no view of the file's stands in for a table, and no function that
/// could do harm is called by its schema. Triggers stay on for our writer: they are the file's owner's.
fn harden(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    use rusqlite::config::DbConfig;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}
