//! The room that the file takes on the disk: how much it is, and how it is given back.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rusqlite::Connection;

use super::backup::with_suffix;
use super::writer::BUSY_TIMEOUT;
use super::{FileFault, StoreError, View, Writer};
use crate::time::Timestamp;

/// For how long a checkpoint waits for readers at one go. It keeps other writers out meanwhile, so it is far less than
/// these wait, and they get as long a pause after it.
const TURN: Duration = Duration::from_millis(100);

/// How often a checkpoint is tried: for five seconds in all. A server lets go of its snapshots in a tenth of one.
const TURNS: u32 = 25;

/// In how many turns in a row readers must have let go of all of the WAL before that of a replicated file is cut.
///
/// Litestream lets go of it for a moment in each of its checkpoints, after it has copied what it found. A commit between
/// that and a cut in this moment would be in no replica, and nothing would tell. Where it runs, several such moments in a
/// row are not met.
const LET_GO: u32 = 4;

/// What the file takes on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub extent: Extent,
    /// What of the file is in pages that hold nothing, and that new sessions will fill.
    pub free: u64,
}

/// What the file system tells of the file, which needs no connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub file: u64,
    pub wal: u64,
    /// When anybody committed last, as near as the file system tells.
    ///
    /// Every commit of every process is written to the end of the WAL, or to its beginning anew, and nothing else is:
    /// so while the WAL holds anything, its last change is the newest commit. (A transaction that outgrows its
    /// writer's memory and is then rolled back leaves its pages there, too.) A checkpoint writes the file only, and is
    /// no commit. Where the WAL holds nothing, since a checkpoint emptied it, or since the last connection was closed,
    /// it is the last change of the file, which may be that checkpoint's: later than the commit, and once for all
    /// commits before it. Whoever opens a file makes an empty WAL: that is no commit. A file that was put in the place
    /// of another counts as written when it was last changed, one that was restored in the restore's transaction.
    pub written_at: Timestamp,
}

impl Extent {
    /// Looks at the file that `path` leads to. Like SQLite, this looks for the WAL beside the file itself, not beside a
    /// symbolic link to it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let real = path.canonicalize()?;
        let file = fs::metadata(&real)?;
        let wal = match fs::metadata(with_suffix(&real, "-wal")) {
            Ok(wal) => Some(wal),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let wal = wal.filter(|wal| wal.len() > 0);
        Ok(Self {
            file: file.len(),
            wal: wal.as_ref().map_or(0, Metadata::len),
            written_at: wal.as_ref().unwrap_or(&file).modified()?.into(),
        })
    }
}

impl Space {
    pub(super) fn of(path: &Path, connection: &Connection) -> Result<Self, FileFault> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let free = pragma("freelist_count")? * pragma("page_size")?;
        Ok(Self {
            extent: Extent::of(path)?,
            free: free.unsigned_abs(),
        })
    }
}

impl View {
    pub fn space(&self) -> Result<Space, StoreError> {
        Space::of(&self.path, &self.connection).map_err(|fault| fault.at(&self.path))
    }
}

impl Writer {
    pub fn space(&self) -> Result<Space, StoreError> {
        Space::of(&self.path, &self.connection).map_err(|fault| fault.at(&self.path))
    }

    /// Writes the whole file anew, without the pages that hold nothing and without what rows that are gone, or that
    /// were changed, have left behind in others. Readers go on; other writers wait, two seconds or so for a million
    /// sessions. Until it is done and the WAL is emptied, it takes as much room again as the file for temporary files,
    /// and as much in the WAL.
    pub fn vacuum(&mut self) -> Result<(), StoreError> {
        self.connection
            .execute_batch("VACUUM")
            .map_err(|error| FileFault::from(error).at(&self.path))
    }

    /// Brings all of the WAL into the file and cuts it to nothing, so that it keeps no older page. Returns whether that
    /// could be done: a reader whose transaction stays open prevents it, and so does Litestream while it runs.
    pub fn empty_wal(&mut self) -> Result<bool, StoreError> {
        let wanted = if self.is_replicated()? { LET_GO } else { 0 };
        let emptied = self
            .connection
            .busy_timeout(TURN)
            .and_then(|()| self.try_to_empty_wal(wanted))
            .and_then(|emptied| {
                self.connection.busy_timeout(BUSY_TIMEOUT)?;
                Ok(emptied)
            });
        emptied.map_err(|error| FileFault::from(error).at(&self.path))
    }

    fn try_to_empty_wal(&self, wanted: u32) -> rusqlite::Result<bool> {
        let mut let_go = 0;
        for turn in 0..TURNS {
            if turn > 0 {
                sleep(TURN);
            }
            // RESTART waits for the same readers as TRUNCATE, and leaves all in its place.
            let is_cut = let_go == wanted;
            let mode = if is_cut { "TRUNCATE" } else { "RESTART" };
            let sql = format!("PRAGMA wal_checkpoint({mode})");
            let busy: bool = self.connection.query_row(&sql, [], |row| row.get(0))?;
            match (busy, is_cut) {
                (false, true) => return Ok(true),
                (false, false) => let_go += 1,
                (true, _) => let_go = 0,
            }
        }
        Ok(false)
    }
}
