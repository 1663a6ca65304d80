//! Files of older formats brought up to this program's, one step for each format, in one transaction.
//!
//! Only `sessile init --upgrade` does this; whoever serves or reads a file never changes its format.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::backup::{copy_from, with_suffix};
use super::reader::{prepare, read_only};
use super::writer::connect;
use super::{FileFault, StoreError, schema};

/// What brings a file from one format to the next. It stays as it is when later formats change what it made, so that
/// each step finds what the one before it left.
struct Step {
    sql: &'static str,
    /// The names that must be free.
    makes: &'static [&'static str],
}

/// The first leads from format 1 to 2, and so on.
const STEPS: [Step; schema::FORMAT as usize - 1] = [Step {
    sql: "
DROP INDEX IF EXISTS session_live;
CREATE INDEX session_live ON session (
    user_id, tenant_id, expires_at, idle_expires_at, authenticated_at, last_active_at, created_at, revoked_at
) WHERE revoked_at IS NULL;
CREATE TABLE sessile_audit (
    id        INTEGER NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    os_user   TEXT    NOT NULL,
    command   TEXT    NOT NULL,
    scope     TEXT    NOT NULL,
    tenant_id TEXT,
    sessions  INTEGER NOT NULL
) STRICT;
CREATE TABLE sessile_import (
    input      TEXT    NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    records    INTEGER NOT NULL,
    digest     TEXT    NOT NULL
) STRICT;
PRAGMA user_version = 2;
",
    makes: &["sessile_audit", "sessile_import"],
}];

/// A file that was brought up, or would be.
#[derive(Debug)]
pub struct Upgraded {
    /// The format it had.
    pub from: i32,
    /// Where it stands as it was.
    pub backup: PathBuf,
}

/// Brings the file up to this program's format, after a backup beside it; `None` where it has that format already.
pub fn upgrade(path: &Path, dry_run: bool) -> Result<Option<Upgraded>, StoreError> {
    let at_path = |fault: FileFault| fault.at(path);
    let mut connection = connect(path).map_err(at_path)?;
    let (transaction, from) = match migrate(&mut connection).map_err(at_path)? {
        Some(migrated) => migrated,
        None => return Ok(None),
    };
    let backup = with_suffix(path, &format!(".format-{from}.backup"));
    if dry_run {
        return Ok(Some(Upgraded { from, backup }));
    }
    // Another connection sees the file as it was, and the lock of this one keeps it so.
    let before = Connection::open_with_flags(path, read_only())
        .and_then(|before| prepare(&before).map(|()| before))
        .map_err(|error| at_path(error.into()))?;
    copy_from(&before, path, &backup, false)?;
    transaction.commit().map_err(|error| {
        // The file is as it was: there is nothing to go back from.
        let _ = fs::remove_file(&backup);
        at_path(error.into())
    })?;
    Ok(Some(Upgraded { from, backup }))
}

/// Takes every step that is missing, up to the commit.
fn migrate(connection: &mut Connection) -> Result<Option<(Transaction<'_>, i32)>, FileFault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = schema::format(&transaction)?;
    if from == schema::FORMAT {
        schema::verify_for_writing(&transaction)?;
        return Ok(None);
    }
    for (step, format) in STEPS.iter().zip(2..).skip_while(|(_, to)| *to <= from) {
        for object in step.makes {
            refuse_taken(&transaction, object, format)?;
        }
        transaction.execute_batch(step.sql)?;
    }
    schema::verify_for_writing(&transaction)?;
    Ok(Some((transaction, from)))
}

fn refuse_taken(
    connection: &Connection,
    object: &'static str,
    format: i32,
) -> Result<(), FileFault> {
    let taken = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE",
            [object],
            |_| Ok(()),
        )
        .optional()?;
    match taken {
        Some(()) => Err(FileFault::NameTaken { object, format }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_leads_to_each_format() {
        for (step, format) in STEPS.iter().zip(2..) {
            let sets = format!("PRAGMA user_version = {format};");
            assert!(step.sql.contains(&sets), "{}", step.sql);
        }
    }
}
