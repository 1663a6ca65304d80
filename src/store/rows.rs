//! The sessions of a file, whole and one at a time, as one instant saw them.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::reader::{prepare, read_only};
use super::{FileFault, StoreError, schema};
use crate::session::{TenantId, UserId};
use crate::time::Timestamp;

/// A session as the file has it. Whoever wrote it there may have used ids that the endpoint refuses.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    pub tenant_id: &'r str,
    pub id: &'r str,
    pub user_id: &'r str,
    pub created_at: Timestamp,
    pub authenticated_at: Option<Timestamp>,
    pub last_active_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub idle_expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoke_reason: Option<&'r str>,
    pub amr: Option<&'r str>,
    pub device_id: Option<&'r str>,
    pub device_type: Option<&'r str>,
    pub ip: Option<&'r str>,
    pub user_agent: Option<&'r str>,
    pub geoip: Option<&'r str>,
}

/// Which sessions.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    All,
    Tenant(&'a TenantId<'a>),
    User(&'a TenantId<'a>, &'a UserId<'a>),
}

impl Of<'_> {
    /// Beyond the columns, in the order that costs least: of all in the order they came in, else by id.
    fn condition(&self) -> &'static str {
        match self {
            Self::All => "ORDER BY rowid",
            Self::Tenant(_) => "WHERE tenant_id = ?1 ORDER BY id",
            Self::User(..) => "WHERE tenant_id = ?1 AND user_id = ?2 ORDER BY id",
        }
    }

    fn parameters(&self) -> Vec<&str> {
        match self {
            Self::All => vec![],
            Self::Tenant(tenant) => vec![tenant.as_str()],
            Self::User(tenant, user) => vec![tenant.as_str(), user.as_str()],
        }
    }
}

/// Why reading ended early.
#[derive(Debug)]
pub enum Stop<E> {
    Store(StoreError),
    /// Whoever the rows were given to said so.
    Sink(E),
}

/// Gives every session of the file at `path` to `sink`, in one read transaction: writers go on meanwhile, and none
/// of what they commit is seen. The WAL can't be emptied into the file until it is over.
pub fn read<E>(
    path: &Path,
    of: Of<'_>,
    sink: &mut dyn FnMut(&Row<'_>) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let mut stopped = None;
    let outcome = read_until(path, of, &mut |row| match sink(row) {
        Ok(()) => true,
        Err(error) => {
            stopped = Some(error);
            false
        }
    });
    match (stopped, outcome) {
        (Some(error), _) => Err(Stop::Sink(error)),
        (None, outcome) => outcome.map_err(|fault| Stop::Store(fault.at(path))),
    }
}

fn read_until(
    path: &Path,
    of: Of<'_>,
    wants_more: &mut dyn FnMut(&Row<'_>) -> bool,
) -> Result<(), FileFault> {
    if !path.try_exists()? {
        return Err(FileFault::Missing);
    }
    let connection = Connection::open_with_flags(path, read_only())?;
    prepare(&connection)?;
    // One transaction from the look at the schema to the last row.
    let transaction = connection.unchecked_transaction()?;
    schema::verify(&transaction)?;
    let mut select = transaction.prepare(&format!("{SELECT} {}", of.condition()))?;
    let mut rows = select.query(rusqlite::params_from_iter(of.parameters()))?;
    while let Some(row) = rows.next()? {
        if !wants_more(&columns(row)?) {
            break;
        }
    }
    Ok(())
}

const SELECT: &str = "\
    SELECT tenant_id, id, user_id, created_at, authenticated_at, last_active_at, expires_at, idle_expires_at,
           revoked_at, revoke_reason, amr, device_id, device_type, ip, user_agent, geoip
    FROM session";

fn columns<'r>(row: &'r rusqlite::Row<'_>) -> Result<Row<'r>, FileFault> {
    let text = |index| match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        value => value.as_str().map(Some).map_err(|_| not_text(row, index)),
    };
    // The schema has NOT NULL for these.
    let needed = |index| text(index).map(Option::unwrap_or_default);
    let instant = |index| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row
            .get::<_, Option<i64>>(index)?
            .map(Timestamp::from_millis))
    };
    Ok(Row {
        tenant_id: needed(0)?,
        id: needed(1)?,
        user_id: needed(2)?,
        created_at: Timestamp::from_millis(row.get(3)?),
        authenticated_at: instant(4)?,
        last_active_at: instant(5)?,
        expires_at: Timestamp::from_millis(row.get(6)?),
        idle_expires_at: instant(7)?,
        revoked_at: instant(8)?,
        revoke_reason: text(9)?,
        amr: text(10)?,
        device_id: text(11)?,
        device_type: text(12)?,
        ip: text(13)?,
        user_agent: text(14)?,
        geoip: text(15)?,
    })
}

/// What is wrong with a column that is no UTF-8, which SQLite lets anybody write.
fn not_text(row: &rusqlite::Row<'_>, index: usize) -> FileFault {
    let lossy = |index: usize| match row.get_ref(index) {
        Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    FileFault::NotText {
        column: row
            .as_ref()
            .column_name(index)
            .map(str::to_owned)
            .unwrap_or_default(),
        tenant: lossy(0),
        session: lossy(1),
    }
}
