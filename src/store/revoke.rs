//! Sessions ended by an operator.

use rusqlite::Connection;

use super::audit::{Entry, record};
use super::view::{INSTANTS, instants};
use super::{StoreError, Writer};
use crate::session::{Policy, SessionId, TenantId, UserId};
use crate::time::Timestamp;

/// Which sessions of a tenant.
#[derive(Clone, Debug)]
pub enum Whose {
    /// The one with this id.
    Session(SessionId<'static>),
    /// Those of one user.
    User(UserId<'static>),
    /// All of them.
    Tenant,
}

/// What is to be ended, and how.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub tenant: TenantId<'static>,
    pub whose: Whose,
    pub at: Timestamp,
    pub reason: Option<String>,
    /// Whether to clear ip, user_agent and geoip, also of sessions that were revoked before.
    pub forget: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// How many sessions were ended: all that were not revoked yet, past their deadlines or not.
    pub ended: u64,
    /// How many of those counted until then.
    pub active: u64,
    /// How many sessions had something to forget.
    pub forgotten: u64,
    /// Whether there is any session such as was named, revoked before or now.
    pub found: bool,
}

impl Writer {
    /// Ends sessions, all in one transaction. A session that was revoked before keeps its end and its reason.
    pub fn revoke(
        &mut self,
        revocation: &Revocation,
        policy: &Policy,
    ) -> Result<Revoked, StoreError> {
        if revocation.forget {
            self.overwrite_what_is_deleted()?;
        }
        self.transact(|connection| {
            let active = revocation.count_active(connection, policy)?;
            let ended = revocation.end(connection)?;
            let forgotten = if revocation.forget {
                revocation.forget(connection)?
            } else {
                0
            };
            let found = ended > 0 || revocation.finds_any(connection)?;
            let entry = Entry {
                command: "revoke",
                scope: &revocation.scope(forgotten),
                tenant: Some(&revocation.tenant),
                sessions: ended,
            };
            record(connection, &entry)?;
            Ok(Revoked {
                ended,
                active,
                forgotten,
                found,
            })
        })
    }
}

impl Revocation {
    fn count_active(&self, connection: &Connection, policy: &Policy) -> rusqlite::Result<u64> {
        let Rows {
            unrevoked, named, ..
        } = self.whose.rows();
        let sql = format!(
            "SELECT {INSTANTS} FROM session {unrevoked} WHERE {named} AND revoked_at IS NULL"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query((self.tenant.as_str(), self.whose.id()))?;
        let mut active = 0;
        while let Some(row) = rows.next()? {
            active += u64::from(instants(row)?.is_active_at(self.at, policy));
        }
        Ok(active)
    }

    fn end(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let Rows {
            unrevoked, named, ..
        } = self.whose.rows();
        let sql = format!(
            "UPDATE session {unrevoked} SET revoked_at = ?3, revoke_reason = ?4
             WHERE {named} AND revoked_at IS NULL"
        );
        let (tenant, whose) = (self.tenant.as_str(), self.whose.id());
        let ended = connection.execute(&sql, (tenant, whose, self.at.as_millis(), &self.reason))?;
        Ok(ended as u64)
    }

    fn forget(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let Rows { all, named, .. } = self.whose.rows();
        let sql = format!(
            "UPDATE session {all} SET ip = NULL, user_agent = NULL, geoip = NULL
             WHERE {named} AND coalesce(ip, user_agent, geoip) IS NOT NULL"
        );
        let forgotten = connection.execute(&sql, (self.tenant.as_str(), self.whose.id()))?;
        Ok(forgotten as u64)
    }

    fn finds_any(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let Rows { all, named, .. } = self.whose.rows();
        let sql = format!("SELECT EXISTS (SELECT 1 FROM session {all} WHERE {named})");
        connection.query_row(&sql, (self.tenant.as_str(), self.whose.id()), |row| {
            row.get(0)
        })
    }

    /// What was asked for, in words that name nobody.
    fn scope(&self, forgotten: u64) -> String {
        let whose = match self.whose {
            Whose::Session(_) => "one session",
            Whose::User(_) => "all sessions of one user",
            Whose::Tenant => "all sessions of the tenant",
        };
        if self.forget {
            format!("{whose}, with ip, user_agent and geoip of {forgotten} cleared")
        } else {
            whose.to_owned()
        }
    }
}

/// How the rows are found.
struct Rows {
    /// By which index, those that are not revoked.
    unrevoked: &'static str,
    /// By which index, revoked or not. Reading the table once is ten times quicker than following the primary key
    /// through all of a large tenant.
    all: &'static str,
    /// The condition, in which `?1` is the tenant and `?2` is [`Whose::id`].
    named: &'static str,
}

impl Whose {
    fn rows(&self) -> Rows {
        let (unrevoked, all, named) = match self {
            Self::Session(_) => ("", "", "tenant_id = ?1 AND id = ?2"),
            Self::User(_) => (
                "INDEXED BY session_live",
                "NOT INDEXED",
                "tenant_id = ?1 AND user_id = ?2",
            ),
            Self::Tenant => (
                "INDEXED BY session_live",
                "NOT INDEXED",
                "tenant_id = ?1 AND ?2 IS NULL",
            ),
        };
        Rows {
            unrevoked,
            all,
            named,
        }
    }

    fn id(&self) -> Option<&str> {
        match self {
            Self::Session(id) => Some(id.as_str()),
            Self::User(id) => Some(id.as_str()),
            Self::Tenant => None,
        }
    }
}
