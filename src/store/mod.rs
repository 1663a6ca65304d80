//! SQLite: the file, its schema, how it is read and how it is written. Knows no HTTP.
//!
//! - [`schema`]: what a file must be before an answer is given from it.
//! - [`reader`]: counts over a pool of read-only connections; notices a replaced file.
//! - [`lane`]: a worker's own connection of that pool, for the counts that take microseconds.
//! - [`place`]: what the path of the file leads to, and whether it still does.
//! - [`wal_index`]: whether anybody has committed since; the one file with unsafe code.
//! - [`writer`]: the one read-write connection of a command. [`import`]: how sessions get in by it.
//! - [`revoke`], [`purge`], [`erase`]: how they end and get out. [`space`]: the room that the file takes.
//! - [`audit`]: what the commands changed, told by themselves.
//! - [`view`]: one snapshot for a command that only reads. [`explain`] and [`survey`]: what it finds there.

pub mod audit;
mod erase;
pub mod explain;
pub mod import;
pub mod lane;
mod place;
pub mod purge;
pub mod reader;
pub mod revoke;
pub mod schema;
pub mod space;
pub mod survey;
pub mod view;
mod wal_index;
pub mod writer;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use lane::Lane;
pub use reader::{Options, Reader, Snapshot};
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
        "its {object} is not that of schema.sql; make a new file with `sessile init` and import the sessions into it"
    )]
    Misshapen { object: &'static str },
    #[error(
        "its journal mode is {found}, not WAL, so readers and writers would wait for each other; \
         run `sqlite3 FILE 'PRAGMA journal_mode = WAL'`"
    )]
    NotWal { found: String },
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
            Self::InTheWay => "file exists",
            Self::Unopenable(_) | Self::Io(_) => "file can't be opened",
            Self::NotSqlite => "not a SQLite database",
            Self::Empty | Self::Foreign { .. } | Self::Misshapen { .. } => "not a sessile file",
            Self::Newer { .. } | Self::Older { .. } => "file of another format",
            Self::NotWal { .. } => "journal mode is not WAL",
            Self::Unsteady => "file replaced repeatedly",
            Self::Crowded | Self::Pool(_) => "no connection free",
            Self::Locked(_) => "file locked",
            Self::Sqlite(_) | Self::Task(_) => "query failed",
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
        match error.sqlite_error_code() {
            Some(Code::NotADatabase) => Self::NotSqlite,
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
