//! A copy back into the live file, as one transaction that running servers switch over with.
//!
//! The copy is taken over by SQLite's backup API, which writes its pages through the WAL and commits once. Against
//! one SQL transaction of DELETE and INSERT…SELECT speaks that such a restore could not mend a damaged file, whose
//! tables can't be emptied, and that it would leave out what else the copy holds: its owner's tables and indexes.
//!
//! What must be in that same commit is first put into a private copy, which SQLite keeps in its folder for temporary
//! files (`SQLITE_TMPDIR`, else `TMPDIR`, else /var/tmp) without a name, so that nothing of it is left behind even by
//! a kill: the rows of the audit that are newer than the backup, a row of the restore itself and, where asked for,
//! the revocations since. The lock of the live file is taken before those are read, so none can slip in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::audit::{Entry, record};
use super::backup::{
    Depth, Lone, busy, check_integrity, copy_all, count, finish, is_full, is_same, sync_folder, uri,
};
use super::reader::{prepare, read_only};
use super::writer::{connect, create_empty, is_replicated};
use super::{FileFault, StoreError, harden, schema};

/// How long the checkpoint after a restore waits for readers.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(2);

/// How a backup is restored.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sessions that the live file has as revoked stay so.
    pub keep_revocations: bool,
    /// All but the restore itself.
    pub dry_run: bool,
}

/// What a restore changes.
#[derive(Debug)]
pub struct Restored {
    /// How many sessions the file has now.
    pub sessions: u64,
    pub replaced: Replaced,
}

/// What the restored contents took the place of.
#[derive(Debug)]
pub enum Replaced {
    Nothing,
    File(Comparison),
    /// A file that can't be read any more, for this reason.
    Unreadable(FileFault),
}

/// The file that was, beside the one that is.
#[derive(Debug, Default)]
pub struct Comparison {
    pub sessions: u64,
    /// How many sessions were revoked and are not any more.
    pub revived: u64,
    /// How many revocations of later than the backup were kept.
    pub kept: u64,
    /// How many rows of the audit were carried over, because the backup lacks them.
    pub audit_rows: u64,
    /// How many of those tell of erasures, which the restore has undone.
    pub erasures: u64,
}

/// Puts the contents of the file `backup` into the live file `path`, or makes that file.
pub fn restore(path: &Path, backup: &Path, options: Options) -> Result<Restored, StoreError> {
    let at_backup = |fault: FileFault| fault.at(backup);
    if is_same(path, backup) {
        return Err(at_backup(FileFault::Itself));
    }
    let staging = stage(backup).map_err(at_backup)?;
    let from = std::path::absolute(backup).map_err(|error| at_backup(error.into()))?;
    let scope = format!("all, from {}", from.display());
    let replaced = if options.dry_run {
        look(&staging, path, options)
    } else {
        replace(&staging, path, &scope, options)
    };
    let replaced = replaced.map_err(|fault| fault.at(path))?;
    let sessions = count(&staging, "main").map_err(|error| at_backup(error.into()))?;
    Ok(Restored { sessions, replaced })
}

/// A private copy of a backup that was found to be sound.
fn stage(backup: &Path) -> Result<Connection, FileFault> {
    let lone = Lone::open(backup)?;
    schema::verify_for_copying(&lone.connection).map_err(|fault| match fault {
        FileFault::Older { found, known } => FileFault::OlderBackup { found, known },
        fault => fault,
    })?;
    check_integrity(&lone.connection, Depth::Full)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    let mut staging = Connection::open_with_flags("", flags)?;
    staging.execute_batch("PRAGMA synchronous = OFF")?;
    copy_all(&lone.connection, &mut staging).map_err(|fault| match fault {
        fault if is_full(&fault) => FileFault::NoRoom,
        fault => fault,
    })?;
    if !lone.is_unchanged() {
        return Err(FileFault::Changed);
    }
    harden(&staging)?;
    Ok(staging)
}

/// What `replace` would take the place of.
fn look(staging: &Connection, path: &Path, options: Options) -> Result<Replaced, FileFault> {
    if !path.try_exists()? {
        return Ok(Replaced::Nothing);
    }
    let live = Connection::open_with_flags(path, read_only())?;
    prepare(&live)?;
    if is_filled(&live)? {
        check_page_size(staging, &live)?;
        compare(staging, path, options)
    } else {
        Ok(Replaced::Nothing)
    }
}

fn replace(
    staging: &Connection,
    path: &Path,
    scope: &str,
    options: Options,
) -> Result<Replaced, FileFault> {
    let made = create_empty(path)?;
    let replace = || {
        let mut live = connect(path)?;
        let filled = is_filled(&live)?;
        if !filled {
            live.pragma_update(None, "page_size", page_size(staging)?)?;
        }
        let journal_mode: String =
            live.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if journal_mode != "wal" {
            return Err(FileFault::NotWal {
                found: journal_mode,
            });
        }
        check_page_size(staging, &live)?;

        let backup = Backup::new(staging, &mut live)?;
        lock(&backup)?;
        let replaced = if filled {
            compare(staging, path, options)?
        } else {
            Replaced::Nothing
        };
        let entry = Entry {
            command: "restore",
            scope,
            tenant: None,
            sessions: count(staging, "main")?,
        };
        record(staging, &entry)?;
        finish(&backup)?;
        drop(backup);

        schema::verify_for_writing(&live)?;
        // What was restored is in the file, and stays there whatever becomes of this: it only gives the space of the
        // WAL back, unless a reader of long needs it. Writers wait for the second checkpoint, so the first, which
        // nobody waits for, does the work. Litestream makes its checkpoints itself, once it has copied all of the WAL.
        live.busy_timeout(CHECKPOINT_TIMEOUT)?;
        if !is_replicated(&live)? {
            for checkpoint in ["PASSIVE", "TRUNCATE"] {
                let sql = format!("PRAGMA wal_checkpoint({checkpoint})");
                let _ = live.query_row(&sql, [], |_| Ok(()));
            }
        }
        sync_folder(path)?;
        Ok(replaced)
    };
    replace().inspect_err(|_| {
        if made {
            // Nobody can have used the file yet: it is ours, and it was empty.
            let _ = fs::remove_file(path);
        }
    })
}

/// Whether the file is one of ours with contents, rather than one to be filled.
fn is_filled(live: &Connection) -> Result<bool, FileFault> {
    match schema::format(live) {
        Ok(_) => Ok(true),
        Err(FileFault::Empty) => Ok(false),
        Err(FileFault::NotSqlite | FileFault::Foreign { .. }) => Err(FileFault::InTheWay),
        Err(fault) => Err(fault),
    }
}

/// A WAL has pages of one size.
fn check_page_size(staging: &Connection, live: &Connection) -> Result<(), FileFault> {
    let (backup, found) = (page_size(staging)?, page_size(live)?);
    if backup == found {
        Ok(())
    } else {
        Err(FileFault::PageSize { found, backup })
    }
}

fn page_size(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "page_size", |row| row.get(0))
}

/// Takes the lock of writers, which the backup then holds to its end.
fn lock(backup: &Backup<'_, '_>) -> Result<(), FileFault> {
    // No page is copied yet.
    match backup.step(0)? {
        StepResult::Busy | StepResult::Locked => Err(busy()),
        _ => Ok(()),
    }
}

/// Compares the live file with what is to be restored, and carries over what belongs into it.
fn compare(staging: &Connection, path: &Path, options: Options) -> Result<Replaced, FileFault> {
    staging.execute("ATTACH ?1 AS live", [uri(path, "mode=ro")])?;
    // Of a file whose sessions can't be read, too.
    let kept = keep_replicated(staging);
    staging.execute_batch("BEGIN")?;
    let compared = kept.and_then(|()| carry_over(staging, options.keep_revocations));
    staging.execute_batch(if compared.is_ok() {
        "COMMIT; DETACH live"
    } else {
        "ROLLBACK; DETACH live"
    })?;
    match compared.map_err(FileFault::from) {
        Ok(comparison) => Ok(Replaced::File(comparison)),
        Err(fault @ (FileFault::Locked(_) | FileFault::Unopenable(_))) => Err(fault),
        Err(fault) if options.keep_revocations => Err(fault),
        Err(fault) => Ok(Replaced::Unreadable(fault)),
    }
}

fn carry_over(staging: &Connection, keep_revocations: bool) -> rusqlite::Result<Comparison> {
    let mut comparison = Comparison {
        sessions: count(staging, "live")?,
        ..Comparison::default()
    };
    if keep_revocations {
        comparison.kept = staging.execute(KEEP_REVOCATIONS, [])? as u64;
    } else {
        let revived: i64 = staging.query_row(COUNT_REVIVED, [], |row| row.get(0))?;
        comparison.revived = revived.unsigned_abs();
    }
    // A file of format 1 has no audit.
    let is_audited =
        "SELECT EXISTS (SELECT 1 FROM live.sqlite_schema WHERE name = 'sessile_audit')";
    if staging.query_row(is_audited, [], |row| row.get(0))? {
        let newest: i64 = staging.query_row(
            "SELECT coalesce(max(id), 0) FROM main.sessile_audit",
            [],
            |row| row.get(0),
        )?;
        comparison.audit_rows = staging.execute(CARRY_AUDIT, [])? as u64;
        let erasures: i64 = staging.query_row(
            "SELECT count(*) FROM main.sessile_audit WHERE id > ?1 AND command = 'delete'",
            [newest],
            |row| row.get(0),
        )?;
        comparison.erasures = erasures.unsigned_abs();
    }
    Ok(comparison)
}

/// Litestream makes its tables at its start and then relies on them: without them it stops to replicate at its next
/// checkpoint. A backup from before it came has none.
fn keep_replicated(staging: &Connection) -> rusqlite::Result<()> {
    for (table, columns) in [
        ("_litestream_seq", "id INTEGER PRIMARY KEY, seq INTEGER"),
        ("_litestream_lock", "id INTEGER"),
    ] {
        if staging.table_exists(Some("live"), table)? {
            staging.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS main.{table} ({columns})"
            ))?;
        }
    }
    Ok(())
}

const COUNT_REVIVED: &str = "\
    SELECT count(*) FROM main.session AS restored
    JOIN live.session AS was USING (tenant_id, id, user_id)
    WHERE restored.revoked_at IS NULL AND was.revoked_at IS NOT NULL";

const KEEP_REVOCATIONS: &str = "\
    UPDATE main.session AS restored SET revoked_at = was.revoked_at, revoke_reason = was.revoke_reason
    FROM live.session AS was
    WHERE was.tenant_id = restored.tenant_id AND was.id = restored.id AND was.user_id = restored.user_id
      AND restored.revoked_at IS NULL AND was.revoked_at IS NOT NULL";

/// Under new numbers, because the backup's history and that of the file may have parted long ago.
const CARRY_AUDIT: &str = "\
    INSERT INTO main.sessile_audit (at, os_user, command, scope, tenant_id, sessions)
    SELECT * FROM (
        SELECT at, os_user, command, scope, tenant_id, sessions FROM live.sessile_audit
        EXCEPT
        SELECT at, os_user, command, scope, tenant_id, sessions FROM main.sessile_audit
    ) ORDER BY at";
