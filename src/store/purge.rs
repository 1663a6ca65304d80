//! Sessions that ended long ago, thrown away a few at a time.
//!
//! The table is walked once, by rowid, and each step that finds something deletes it in a short transaction of its own.
//! Readers are never held up, and another writer gets its turn between any two steps. Stopped at any point, it has
//! done a part and told the audit so; run again, it does the rest.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Row;

use super::audit::{Entry, record};
use super::{FileFault, StoreError, View, Writer};
use crate::session::Outlived;

/// How many rows a step looks at, and so the most that one transaction deletes.
const STEP: i64 = 1_000;

/// How long other writers are given between two transactions, at most; at least it is as long as the one before took.
const MOST_PAUSE: Duration = Duration::from_millis(100);

/// What is thrown away; `?1` and `?2` are [`marks`].
const OVER: &str = "(revoked_at <= ?1 OR expires_at <= ?2 OR idle_expires_at <= ?2)";

/// What was thrown away and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub purged: u64,
    pub kept: u64,
}

impl View {
    /// What [`Writer::purge`] would do.
    pub fn purgeable(&self, outlived: &Outlived) -> Result<Purged, StoreError> {
        let sql =
            format!("SELECT count(*), count(*) FILTER (WHERE {OVER}) FROM session NOT INDEXED");
        self.ask(|connection| {
            let (rows, over) = connection.query_row(&sql, marks(outlived), counts)?;
            Ok(Purged {
                purged: over,
                kept: rows - over,
            })
        })
    }
}

impl Writer {
    /// Deletes every session that is outlived.
    ///
    /// These commits do not wait for the disk, as none of them matters to an answer: what a power cut takes back of
    /// them, the next purge does again.
    pub fn purge(&mut self, outlived: &Outlived) -> Result<Purged, StoreError> {
        self.set_synchronous("NORMAL")?;
        let audit = self.transact(|connection| {
            let entry = Entry {
                command: "purge",
                scope: &format!("sessions that had ended by {}", outlived.revoked),
                tenant: None,
                sessions: 0,
            };
            record(connection, &entry)?;
            Ok(connection.last_insert_rowid())
        })?;
        let mut purged = Purged::default();
        let mut from = Some(i64::MIN);
        while let Some(first) = from {
            let Some(step) = self.look(first, outlived)? else {
                break;
            };
            let deleted = if step.over > 0 {
                self.take(&step, outlived, audit)?
            } else {
                0
            };
            purged.purged += deleted;
            purged.kept += step.rows.saturating_sub(deleted);
            from = step.last.checked_add(1);
        }
        self.set_synchronous("FULL")?;
        Ok(purged)
    }

    /// The next rows from rowid `first` on; `None` where there are none.
    fn look(&self, first: i64, outlived: &Outlived) -> Result<Option<Step>, StoreError> {
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE {OVER}), max(row)
             FROM (SELECT rowid AS row, revoked_at, expires_at, idle_expires_at FROM session NOT INDEXED
                   WHERE rowid >= ?3 ORDER BY rowid LIMIT ?4)"
        );
        let step = || {
            let (revoked, deadline) = marks(outlived);
            self.connection.prepare_cached(&sql)?.query_row(
                (revoked, deadline, first, STEP),
                |row| {
                    let (rows, over) = counts(row)?;
                    let last: Option<i64> = row.get(2)?;
                    Ok(last.map(|last| Step {
                        first,
                        last,
                        rows,
                        over,
                    }))
                },
            )
        };
        step().map_err(|error| FileFault::from(error).at(&self.path))
    }

    /// Deletes what is over of a step, tells the audit, and leaves the file to others for a while.
    fn take(&mut self, step: &Step, outlived: &Outlived, audit: i64) -> Result<u64, StoreError> {
        let sql =
            format!("DELETE FROM session NOT INDEXED WHERE rowid BETWEEN ?3 AND ?4 AND {OVER}");
        let (revoked, deadline) = marks(outlived);
        let begun = Instant::now();
        let deleted = self.transact(|connection| {
            let deleted = connection
                .prepare_cached(&sql)?
                .execute((revoked, deadline, step.first, step.last))?;
            let deleted = i64::try_from(deleted).unwrap_or(i64::MAX);
            connection
                .prepare_cached("UPDATE sessile_audit SET sessions = sessions + ?2 WHERE id = ?1")?
                .execute((audit, deleted))?;
            Ok(deleted.unsigned_abs())
        })?;
        sleep(begun.elapsed().min(MOST_PAUSE));
        Ok(deleted)
    }
}

/// Some rows that follow each other.
struct Step {
    first: i64,
    last: i64,
    rows: u64,
    /// How many of them are over.
    over: u64,
}

/// The parameters of [`OVER`].
fn marks(outlived: &Outlived) -> (i64, i64) {
    (outlived.revoked.as_millis(), outlived.deadline.as_millis())
}

/// The numbers of rows that a result begins with: all, and those that are over.
fn counts(row: &Row<'_>) -> rusqlite::Result<(u64, u64)> {
    let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok((count(0)?, count(1)?))
}
