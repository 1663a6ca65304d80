//! What is wrong with a file, for `sessile doctor`: looked at without leaving a trace.
//!
//! A reader of a file that nobody has open makes a -wal and a -shm for it, under its own user, which may then keep the
//! users at work from theirs. So such a file is read as it lies.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::backup::{Depth, Lone, check_integrity, companions};
use super::reader::{prepare, read_only};
use super::{FileFault, StoreError, schema};
use crate::time::Timestamp;

/// What was found in a file that is one of ours.
#[derive(Debug)]
pub struct Health {
    /// The first thing that is wrong with its pages.
    pub damage: Option<StoreError>,
    /// The newest instant at which something was done, as its writers say, of the sessions that are not revoked.
    pub newest_event_at: Option<Timestamp>,
    /// Imports in parts that are under way or were stopped.
    pub unfinished: Vec<Unfinished>,
}

/// An import in parts that is not done.
#[derive(Debug)]
pub struct Unfinished {
    pub input: String,
    pub started_at: Timestamp,
    pub sessions: u64,
}

/// Looks at the file; an error says why it is not one to answer from.
pub fn examine(path: &Path, depth: Depth) -> Result<Health, StoreError> {
    try_examine(path, depth).map_err(|fault| fault.at(path))
}

fn try_examine(path: &Path, depth: Depth) -> Result<Health, FileFault> {
    if !path.try_exists()? {
        return Err(FileFault::Missing);
    }
    if !companions(path).any(|companion| companion.exists()) {
        // No connection of this process is open, so that closing the file gives no lock back.
        let is_wal = is_in_wal_mode(path)?;
        let lone = Lone::open(path)?;
        let health = look(&lone.connection, path, depth, |connection| {
            schema::verify_for_copying(connection)?;
            match is_wal {
                true => Ok(()),
                false => Err(FileFault::NotWal {
                    found: "that of a rollback journal".to_owned(),
                }),
            }
        });
        if lone.is_unchanged() {
            return health;
        }
    }
    let connection = Connection::open_with_flags(path, read_only())?;
    prepare(&connection)?;
    look(&connection, path, depth, schema::verify_for_writing)
}

fn look(
    connection: &Connection,
    path: &Path,
    depth: Depth,
    verify: impl FnOnce(&Connection) -> Result<(), FileFault>,
) -> Result<Health, FileFault> {
    verify(connection)?;
    if let Err(fault) = check_integrity(connection, depth) {
        return Ok(Health {
            damage: Some(fault.at(path)),
            newest_event_at: None,
            unfinished: Vec::new(),
        });
    }
    let newest_event_at = connection
        .query_row(NEWEST_EVENT, [], |row| row.get::<_, Option<i64>>(0))
        .optional()?
        .flatten();
    let mut statement = connection
        .prepare("SELECT input, started_at, records FROM sessile_import ORDER BY started_at")?;
    let unfinished = statement.query_map([], |row| {
        Ok(Unfinished {
            input: row.get(0)?,
            started_at: Timestamp::from_millis(row.get(1)?),
            sessions: row.get::<_, i64>(2)?.unsigned_abs(),
        })
    })?;
    Ok(Health {
        damage: None,
        newest_event_at: newest_event_at.map(Timestamp::from_millis),
        unfinished: unfinished.collect::<Result<_, _>>()?,
    })
}

/// From the index alone, which is smaller than the table by far.
const NEWEST_EVENT: &str = "\
    SELECT max(max(created_at, coalesce(authenticated_at, 0), coalesce(last_active_at, 0)))
    FROM session INDEXED BY session_live WHERE revoked_at IS NULL";

/// Whether the header of the file asks for a WAL (<https://www.sqlite.org/fileformat2.html>, section 1.3.3).
pub(super) fn is_in_wal_mode(path: &Path) -> io::Result<bool> {
    let mut header = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut header)?;
    Ok(header.ends_with(&[2, 2]))
}
