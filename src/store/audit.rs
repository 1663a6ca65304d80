//! The audit of commands: who changed how many sessions, when and by which command.
//!
//! A row is written in the transaction that makes the change, so that neither is ever there without the other.

use nix::unistd::{Uid, User};
use rusqlite::Connection;

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

/// The name of the real user, or its number where the machine has no name for it.
fn os_user() -> String {
    let id = Uid::current();
    match User::from_uid(id) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => id.to_string(),
    }
}
