//! The audit of commands: who changed how many sessions, when and by which command.
//!
//! A row is written in the transaction that makes the change, so that neither is ever there without the other.

use nix::unistd::{Uid, User};
use rusqlite::Connection;

use super::StoreError;
use super::view::{View, text};
use crate::session::TenantId;
use crate::time::Timestamp;

/// What a command did.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The command's name, as on the command line.
    pub command: &'static str,
    /// What it was asked to change, in words that name no user.
    pub scope: &'a str,
    /// The tenant whose sessions it changed; `None` where it was all of them, or those in an input.
    pub tenant: Option<&'a TenantId<'a>>,
    /// How many sessions it changed.
    pub sessions: u64,
}

/// Writes `entry` in the transaction that is open on `connection`.
pub(super) fn record(connection: &Connection, entry: &Entry<'_>) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO sessile_audit (at, os_user, command, scope, tenant_id, sessions)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            Timestamp::now().as_millis(),
            os_user(),
            entry.command,
            entry.scope,
            entry.tenant.map(TenantId::as_str),
            i64::try_from(entry.sessions).unwrap_or(i64::MAX),
        ),
    )?;
    Ok(())
}

/// Sets the number of sessions of the row `id`, which a command of several transactions wrote in the first of them.
pub(super) fn amend(connection: &Connection, id: i64, sessions: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE sessile_audit SET sessions = ?2 WHERE id = ?1",
        (id, i64::try_from(sessions).unwrap_or(i64::MAX)),
    )?;
    Ok(())
}

/// A row of the audit.
#[derive(Debug)]
pub struct Entered {
    pub at: Timestamp,
    pub os_user: String,
    pub command: String,
    pub scope: String,
    pub tenant: Option<String>,
    pub sessions: u64,
}

impl View {
    /// The newest rows since `since`, the newest first: those of `tenant`, or all; and no more than `most`.
    pub fn audit(
        &self,
        tenant: Option<&TenantId<'_>>,
        since: Option<Timestamp>,
        most: u32,
    ) -> Result<Vec<Entered>, StoreError> {
        // By their number, which is the order of the changes: clocks step.
        let sql = "\
            SELECT at, os_user, command, scope, tenant_id, sessions FROM sessile_audit
            WHERE (?1 IS NULL OR tenant_id = ?1) AND (?2 IS NULL OR at >= ?2)
            ORDER BY id DESC LIMIT ?3";
        let (tenant, since) = (
            tenant.map(TenantId::as_str),
            since.map(Timestamp::as_millis),
        );
        self.ask(|connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map((tenant, since, most), |row| {
                Ok(Entered {
                    at: Timestamp::from_millis(row.get("at")?),
                    os_user: text(row, "os_user")?.unwrap_or_default(),
                    command: text(row, "command")?.unwrap_or_default(),
                    scope: text(row, "scope")?.unwrap_or_default(),
                    tenant: text(row, "tenant_id")?,
                    sessions: row.get::<_, i64>("sessions")?.unsigned_abs(),
                })
            })?;
            rows.collect()
        })
    }
}

/// The name of the real user, or its number where the machine has no name for it.
fn os_user() -> String {
    let id = Uid::current();
    match User::from_uid(id) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => id.to_string(),
    }
}
