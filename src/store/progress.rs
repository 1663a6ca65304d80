//! How far an import in parts has come. It is written in the transaction that writes the sessions, so that a kill or
//! a full disk never parts the two.

use rusqlite::{Connection, OptionalExtension};

use crate::time::Timestamp;

/// What is done of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The import's now, from which relative instants count.
    pub started_at: Timestamp,
    /// How many records, from the beginning of the input.
    pub records: u64,
    /// What the input is known again by: the caller's digest of these records.
    pub digest: String,
}

pub(super) fn load(connection: &Connection, input: &str) -> rusqlite::Result<Option<Progress>> {
    let progress = |row: &rusqlite::Row<'_>| {
        Ok(Progress {
            started_at: Timestamp::from_millis(row.get(0)?),
            records: row.get::<_, i64>(1)?.unsigned_abs(),
            digest: row.get(2)?,
        })
    };
    connection
        .query_row(
            "SELECT started_at, records, digest FROM sessile_import WHERE input = ?1",
            [input],
            progress,
        )
        .optional()
}

/// Goes on from `before`, as this import left it, to `now`, `None` being no row at all. Returns whether the row was
/// as it was left: another import of the same input would move it as well.
pub(super) fn store(
    connection: &Connection,
    input: &str,
    before: Option<&Progress>,
    now: Option<&Progress>,
) -> rusqlite::Result<bool> {
    let number = |progress: &Progress| i64::try_from(progress.records).unwrap_or(i64::MAX);
    let rows = match (before, now) {
        (None, None) => return Ok(true),
        (None, Some(now)) => connection.execute(
            "INSERT INTO sessile_import (input, started_at, records, digest) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (input) DO NOTHING",
            (input, now.started_at.as_millis(), number(now), &now.digest),
        )?,
        (Some(before), Some(now)) => connection.execute(
            "UPDATE sessile_import SET started_at = ?3, records = ?4, digest = ?5
             WHERE input = ?1 AND records = ?2",
            (
                input,
                number(before),
                now.started_at.as_millis(),
                number(now),
                &now.digest,
            ),
        )?,
        (Some(before), None) => connection.execute(
            "DELETE FROM sessile_import WHERE input = ?1 AND records = ?2",
            (input, number(before)),
        )?,
    };
    Ok(rows == 1)
}
