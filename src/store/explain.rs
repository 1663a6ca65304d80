//! Why a user's count is what it is: each session, by what it ended or will end, and when.

use super::StoreError;
use super::view::{INSTANTS, View, instants, text};
use crate::session::{End, Policy, TenantId, UserId};
use crate::time::Timestamp;

/// The count of one user at one instant, and what it is made of.
#[derive(Debug, Default)]
pub struct Explanation {
    /// How many sessions count.
    pub session_count: u64,
    /// When the next of them ends, and the count changes; `None`: at no time, unless the file changes.
    pub changes_at: Option<Timestamp>,
    /// How many sessions of the user the file has.
    pub total: u64,
    /// The first of them, and no more than were asked for: those that count, the next to end first, then those that
    /// are over, the last to end first.
    pub sessions: Vec<Explained>,
}

/// One session of an [`Explanation`].
#[derive(Debug)]
pub struct Explained {
    pub id: String,
    pub counts: bool,
    /// What ends it, or ended it; `None`: nothing will.
    pub end: Option<End>,
    pub revoke_reason: Option<String>,
}

impl Explained {
    /// Where it stands among the others.
    fn rank(&self) -> (bool, i64) {
        let end = self.end.map_or(i64::MAX, |end| end.at.as_millis());
        (!self.counts, if self.counts { end } else { -end })
    }
}

impl View {
    /// Explains the count of `user` in `tenant` at `at`. However many sessions there are, about `most` are held in
    /// memory.
    pub fn explain(
        &self,
        tenant: &TenantId<'_>,
        user: &UserId<'_>,
        at: Timestamp,
        policy: &Policy,
        most: u32,
    ) -> Result<Explanation, StoreError> {
        // The index knows nothing of revoked sessions, and following the primary key through all of a large tenant
        // takes ten times longer than reading the table once from its beginning to its end.
        let sql = format!(
            "SELECT {INSTANTS}, id, revoke_reason FROM session NOT INDEXED
             WHERE tenant_id = ?1 AND user_id = ?2"
        );
        let most = most as usize;
        self.ask(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query((tenant.as_str(), user.as_str()))?;
            let mut explanation = Explanation::default();
            while let Some(row) = rows.next()? {
                let end = instants(row)?.end(policy);
                explanation.add(
                    Explained {
                        id: text(row, "id")?.unwrap_or_default(),
                        counts: !end.is_some_and(|end| end.is_over_at(at)),
                        end,
                        revoke_reason: text(row, "revoke_reason")?,
                    },
                    most,
                );
            }
            explanation.keep(most);
            Ok(explanation)
        })
    }
}

impl Explanation {
    fn add(&mut self, session: Explained, most: usize) {
        self.total += 1;
        if session.counts {
            self.session_count += 1;
            let ends_at = session.end.map(|end| end.at);
            self.changes_at = self.changes_at.into_iter().chain(ends_at).min();
        }
        self.sessions.push(session);
        if self.sessions.len() / 2 > most {
            self.keep(most);
        }
    }

    fn keep(&mut self, most: usize) {
        self.sessions
            .sort_by(|a, b| (a.rank(), &a.id).cmp(&(b.rank(), &b.id)));
        self.sessions.truncate(most);
    }
}
