//! How old the contents are: an instant that somebody writes into the file again and again.
//!
//! What a copy of the file has from elsewhere, such as the time of its last change, tells when the copy was made, not of
//! when its contents are. So whoever writes the file also writes the time into it, and every copy carries that along,
//! through whatever replicates it. It is read from the clock once the lock of writers is held: all that was committed
//! before it, by that clock, is in each file that has it.
//!
//! The table is made by the first heartbeat. A file without one is as good as any other.

use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::reader::Reader;
use super::{StoreError, Writer};
use crate::time::Timestamp;

/// The table's name in the file.
const TABLE: &str = "sessile_heartbeat";

const CREATE: &str = "\
CREATE TABLE IF NOT EXISTS sessile_heartbeat (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT";

const BEAT: &str = "INSERT OR REPLACE INTO sessile_heartbeat (id, at) VALUES (1, ?1)";

/// How often is looked for a free connection.
const PAUSE: Duration = Duration::from_millis(5);

/// The newest heartbeat that was read; `None` before the first reading, `Some(None)` of a file without one.
#[derive(Default)]
pub(super) struct Last(Mutex<Option<Option<Timestamp>>>);

impl Reader {
    /// The file's heartbeat, where it has one. If no connection comes free for it within `patience`, the one that was read
    /// last, which is older. It may wait for a disk besides.
    pub fn heartbeat(&self, patience: Duration) -> Result<Option<Timestamp>, &'static str> {
        let asked = Instant::now();
        let last = &self.last_heartbeat().0;
        loop {
            if let Some(found) = self.lend(read) {
                let found = found.map_err(|_| "heartbeat can't be read")?;
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                return Ok(found);
            }
            if asked.elapsed() >= patience {
                let last = last.lock().unwrap_or_else(PoisonError::into_inner);
                return last.ok_or("heartbeat can't be read in time");
            }
            sleep(PAUSE);
        }
    }
}

impl Writer {
    /// Writes the time into the file, and returns it.
    ///
    /// The commit does not wait for the disk: what a power cut takes back of it, the next heartbeat does again.
    pub fn beat(&mut self) -> Result<Timestamp, StoreError> {
        self.set_synchronous("NORMAL")?;
        let at = self.transact(|connection| {
            connection.execute_batch(CREATE)?;
            let now = Timestamp::now();
            connection.execute(BEAT, [now.as_millis()])?;
            Ok(now)
        })?;
        self.set_synchronous("FULL")?;
        Ok(at)
    }
}

/// The heartbeat of the file behind `connection`, where it has one.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let has_table: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
        )?
        .query_row([TABLE], |row| row.get(0))?;
    if !has_table {
        return Ok(None);
    }
    let at: Option<i64> = connection
        .prepare_cached("SELECT at FROM sessile_heartbeat WHERE id = 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(at.map(Timestamp::from_millis))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::session::{Policy, TenantId, UserId};
    use crate::store::reader::{Options, Snapshot};
    use crate::store::writer;

    /// A reader with one connection, of a file without a heartbeat.
    fn opened(folder: &Path) -> (PathBuf, Reader) {
        let path = folder.join("x.db");
        writer::create(&path).unwrap();
        let options = Options {
            pool_size: 1,
            snapshot: Snapshot::Held,
        };
        let reader = Reader::open(&path, options).unwrap();
        (path, reader)
    }

    #[test]
    fn the_newest_is_read_and_a_file_may_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, reader) = opened(folder.path());
        assert_eq!(reader.heartbeat(PAUSE), Ok(None));
        let before = Timestamp::now();
        let mut writer = Writer::open(&path).unwrap();
        for _ in 0..2 {
            let at = writer.beat().unwrap();
            assert!(before <= at && at <= Timestamp::now());
            assert_eq!(read(&writer.connection).unwrap(), Some(at));
        }
        let rows = "SELECT count(*) FROM sessile_heartbeat";
        let rows: i64 = writer
            .connection
            .query_row(rows, [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1);
    }

    /// The clock is read once nobody else can commit any more, so that each commit before it is in the file.
    #[test]
    fn it_is_later_than_what_it_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _reader) = opened(folder.path());
        let mut writer = Writer::open(&path).unwrap();
        writer.beat().unwrap();
        let other = writer::connect(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let beat = std::thread::spawn(move || writer.beat().unwrap());
        sleep(Duration::from_millis(100));
        let committed_at = Timestamp::now();
        other.execute_batch("COMMIT").unwrap();
        assert!(beat.join().unwrap() >= committed_at);
    }

    #[test]
    fn while_no_connection_is_free_the_last_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, reader) = opened(folder.path());
        let taken = |work: &mut dyn FnMut()| reader.lend(|_| work()).is_some();
        let mut found = Ok(None);
        taken(&mut || found = reader.heartbeat(PAUSE));
        assert_eq!(found, Err("heartbeat can't be read in time"));
        let at = Writer::open(&path).unwrap().beat().unwrap();
        // The table is new, so the file is to be opened anew, which a count does.
        let nobody = (TenantId::new("t").unwrap(), UserId::new("u").unwrap());
        let cutoffs = Policy::default().cutoffs(at);
        reader
            .count_blocking(&nobody.0, &nobody.1, &cutoffs)
            .unwrap();
        assert_eq!(reader.heartbeat(PAUSE), Ok(Some(at)));
        Writer::open(&path).unwrap().beat().unwrap();
        taken(&mut || found = reader.heartbeat(PAUSE));
        assert_eq!(found, Ok(Some(at)));
    }
}
