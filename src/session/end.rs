//! By which deadline a session ends, and when: the predicate told as an instant, for those who ask why.

use super::{Instants, Leeway, Policy};
use crate::time::{Span, Timestamp};

/// What can end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    Revoked,
    ExpiresAt,
    IdleExpiresAt,
    MaxAge,
    IdleTimeout,
}

impl Deadline {
    /// `revoked`, the column of the file, or the key of the configuration behind `sessions.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::ExpiresAt => "expires_at",
            Self::IdleExpiresAt => "idle_expires_at",
            Self::MaxAge => "policy.max_age",
            Self::IdleTimeout => "policy.idle_timeout",
        }
    }
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub by: Deadline,
    /// The first instant at which the session is over, leeway included; of a revocation, when it was made.
    pub at: Timestamp,
}

impl End {
    /// Whether the session is over at `now`. A revoked one is at any time, also before it was revoked: the answer is
    /// of what the file says now.
    pub fn is_over_at(self, now: Timestamp) -> bool {
        self.by == Deadline::Revoked || self.at <= now
    }
}

impl Instants {
    /// What ends the session, or ended it: its revocation, else the earliest of its deadlines. `None`: it never ends,
    /// its deadlines lie beyond every instant that can be held.
    pub fn end(&self, policy: &Policy) -> Option<End> {
        if let Some(at) = self.revoked_at {
            return Some(End {
                by: Deadline::Revoked,
                at,
            });
        }
        let age = |from: Timestamp, limit: Option<Span>| from.checked_add(limit?);
        [
            (Deadline::ExpiresAt, Some(self.expires_at)),
            (Deadline::IdleExpiresAt, self.idle_expires_at),
            (
                Deadline::MaxAge,
                age(self.authenticated_at(), policy.max_age),
            ),
            (
                Deadline::IdleTimeout,
                age(self.last_active_at(), policy.idle_timeout),
            ),
        ]
        .into_iter()
        .filter_map(|(by, at)| {
            let at = at?.checked_add(policy.leeway.span())?;
            Some(End { by, at })
        })
        .min_by_key(|end| end.at)
    }
}

/// What is old enough to be thrown away: sessions that count at no instant from `now` on, whatever policy and leeway
/// may come to be configured. A policy only ends sessions earlier, so none is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// The last `revoked_at` of such a session.
    pub revoked: Timestamp,
    /// The last `expires_at` or `idle_expires_at` of such a session.
    pub deadline: Timestamp,
}

impl Outlived {
    /// Those that ended `age` ago or earlier, even if every deadline had been taken later by the largest leeway.
    pub fn by(now: Timestamp, age: Span) -> Self {
        let revoked = now.saturating_sub(age);
        Self {
            revoked,
            deadline: revoked.saturating_sub(Leeway::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::from_millis(1_000_000_000_000);
    const HOUR: Span = Span::from_hours(1);

    fn instants() -> Instants {
        Instants {
            created_at: T,
            authenticated_at: None,
            last_active_at: None,
            expires_at: T.saturating_add(Span::from_hours(4)),
            idle_expires_at: None,
            revoked_at: None,
        }
    }

    #[track_caller]
    fn assert_ends(instants: Instants, policy: &Policy, by: Deadline, after: Span) {
        let at = T.saturating_add(after);
        assert_eq!(instants.end(policy), Some(End { by, at }));
    }

    #[test]
    fn the_earliest_deadline_is_the_end() {
        let none = Policy::default();
        assert_ends(instants(), &none, Deadline::ExpiresAt, Span::from_hours(4));
        let idle = Instants {
            idle_expires_at: Some(T.saturating_add(HOUR)),
            ..instants()
        };
        assert_ends(idle, &none, Deadline::IdleExpiresAt, HOUR);
        let aged = Policy {
            max_age: Some(HOUR),
            ..none
        };
        assert_ends(instants(), &aged, Deadline::MaxAge, HOUR);
        let quiet = Policy {
            idle_timeout: Some(Span::from_minutes(30)),
            ..aged
        };
        assert_ends(
            instants(),
            &quiet,
            Deadline::IdleTimeout,
            Span::from_minutes(30),
        );
        let lenient = Policy {
            leeway: Leeway(60_000),
            ..quiet
        };
        assert_ends(
            instants(),
            &lenient,
            Deadline::IdleTimeout,
            Span::from_minutes(31),
        );
        let revoked = Instants {
            revoked_at: Some(T.saturating_add(Span::from_days(9))),
            ..instants()
        };
        assert_ends(revoked, &lenient, Deadline::Revoked, Span::from_days(9));
    }

    #[test]
    fn a_revoked_session_is_over_at_any_time_and_another_from_its_end_on() {
        let end = |by| End { by, at: T };
        let before = T.saturating_sub(Span::from_millis(1));
        assert!(end(Deadline::Revoked).is_over_at(before));
        assert!(!end(Deadline::ExpiresAt).is_over_at(before));
        assert!(end(Deadline::ExpiresAt).is_over_at(T));
    }

    #[test]
    fn beyond_the_ends_of_time_there_is_no_end() {
        let endless = Instants {
            expires_at: Timestamp::from_millis(i64::MAX),
            ..instants()
        };
        let policy = Policy {
            max_age: Some(Span::from_millis(i64::MAX)),
            leeway: Leeway(60_000),
            ..Policy::default()
        };
        assert_eq!(endless.end(&policy), None);
    }
}
