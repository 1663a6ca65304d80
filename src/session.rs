//! What a session is and when it counts. Pure: no clock is read here, nothing is opened.
//!
//! The predicate stands in this file and nowhere else. [`Policy::cutoffs`] turns an instant into the marks that
//! a live session's deadlines must lie after; [`Instants::is_active_at`] compares one session with them, and the
//! store's SQL compares the same columns with the same marks. [`Instants::end`] tells by what and when a session
//! ends; a property test holds it against the predicate.

mod end;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

pub use end::{Deadline, End, Outlived};

use crate::time::{Span, Timestamp};

/// Why a text can't be an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdFault {
    #[error("it is empty")]
    Empty,
    #[error("it has a character that is not allowed")]
    Character,
    #[error("it has {0} characters")]
    TooLong(usize),
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, max $max:literal, $allowed:literal, not $forbidden:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name<'a>(Cow<'a, str>);

        impl<'a> $name<'a> {
            /// The longest, in characters (Unicode scalar values).
            pub const MAX: usize = $max;
            /// What is allowed, for an error sentence: "…, allowed: " and this.
            pub const ALLOWED: &'static str = $allowed;

            pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, IdFault> {
                let text = text.into();
                let forbidden: fn(char) -> bool = $forbidden;
                if text.is_empty() {
                    return Err(IdFault::Empty);
                }
                // Visible ASCII is allowed in every id, and most are nothing else.
                if !text.bytes().all(|byte| byte.is_ascii_graphic()) && text.contains(forbidden) {
                    return Err(IdFault::Character);
                }
                // A text has no more characters than bytes: most are never counted.
                if text.len() > Self::MAX {
                    let characters = text.chars().count();
                    if characters > Self::MAX {
                        return Err(IdFault::TooLong(characters));
                    }
                }
                Ok(Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_owned(self) -> $name<'static> {
                $name(Cow::Owned(self.0.into_owned()))
            }
        }

        impl fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type! {
    /// Whose session it is: 1 to 128 visible ASCII characters (0x21 to 0x7E), as `X-Tenant-ID` carries it.
    TenantId, max 128, "1 to 128 visible ASCII characters", not |c| !c.is_ascii_graphic()
}
id_type! {
    /// The user: 1 to 256 characters without a control character (Unicode Cc), compared byte for byte.
    UserId, max 256, "1 to 256 characters, none of them a control character", not char::is_control
}
id_type! {
    /// The session itself, unique within its tenant, under the rule of [`UserId`].
    SessionId, max 256, "1 to 256 characters, none of them a control character", not char::is_control
}

/// One session, as the file holds it (`schema.sql` says what each column means).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub tenant_id: TenantId<'static>,
    pub id: SessionId<'static>,
    pub user_id: UserId<'static>,
    pub created_at: Timestamp,
    pub authenticated_at: Option<Timestamp>,
    pub last_active_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub idle_expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoke_reason: Option<String>,
    pub amr: Option<String>,
    pub device_id: Option<String>,
    pub device_type: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub geoip: Option<String>,
}

impl Session {
    /// Whether the session counts at `now`.
    pub fn is_active_at(&self, now: Timestamp, policy: &Policy) -> bool {
        self.instants().is_active_at(now, policy)
    }

    pub fn instants(&self) -> Instants {
        Instants {
            created_at: self.created_at,
            authenticated_at: self.authenticated_at,
            last_active_at: self.last_active_at,
            expires_at: self.expires_at,
            idle_expires_at: self.idle_expires_at,
            revoked_at: self.revoked_at,
        }
    }
}

/// The instants of a session that decide whether it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    pub created_at: Timestamp,
    pub authenticated_at: Option<Timestamp>,
    pub last_active_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub idle_expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl Instants {
    /// Whether the session counts at `now`. Equality with a deadline is inactive (RFC 7519 section 4.1.4: "on or
    /// after which").
    pub fn is_active_at(&self, now: Timestamp, policy: &Policy) -> bool {
        let live_after = policy.cutoffs(now);
        self.revoked_at.is_none()
            && self.expires_at > live_after.deadline
            && self
                .idle_expires_at
                .is_none_or(|idle| idle > live_after.deadline)
            && live_after
                .authentication
                .is_none_or(|mark| self.authenticated_at() > mark)
            && live_after
                .activity
                .is_none_or(|mark| self.last_active_at() > mark)
    }

    /// The newest creation, authentication, activity or revocation that is not later than `at`.
    pub fn newest_event_by(&self, at: Timestamp) -> Option<Timestamp> {
        let events = [
            Some(self.created_at),
            self.authenticated_at,
            self.last_active_at,
            self.revoked_at,
        ];
        let past = events.into_iter().flatten();
        past.filter(|event| *event <= at).max()
    }

    /// The last authentication, for which the creation stands in.
    fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at.unwrap_or(self.created_at)
    }

    /// The last activity, for which the last authentication stands in.
    fn last_active_at(&self) -> Timestamp {
        self.last_active_at
            .unwrap_or_else(|| self.authenticated_at())
    }
}

/// The marks that belong to one instant: a session is live while each of its own instants lies after its mark.
///
/// A deadline `d` is passed when `now >= d + leeway`, that is, when `d <= now - leeway`. Moving the subtraction
/// to this side keeps the SQL a plain comparison of columns, which the index can answer, and can't overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    /// For `expires_at` and `idle_expires_at`.
    pub deadline: Timestamp,
    /// For `authenticated_at`, which falls back to `created_at`; `None` where no age is set.
    pub authentication: Option<Timestamp>,
    /// For `last_active_at`, which falls back to `authenticated_at`; `None` where no idle time is set.
    pub activity: Option<Timestamp>,
}

/// What ends a session beside its stored deadlines. The default ends none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The longest time since authentication.
    pub max_age: Option<Span>,
    /// The longest time since the last activity.
    pub idle_timeout: Option<Span>,
    /// How much later every deadline is taken, stored ones and those of the policy.
    pub leeway: Leeway,
}

/// An allowance for clocks that differ: 0 to 60 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leeway(u16);

impl Leeway {
    pub const MAX: Span = Span::from_minutes(1);

    /// `None` where the span is negative or over 60 seconds.
    pub fn new(span: Span) -> Option<Self> {
        u16::try_from(span.as_millis())
            .ok()
            .filter(|_| span <= Self::MAX)
            .map(Self)
    }

    pub fn span(self) -> Span {
        Span::from_millis(self.0.into())
    }
}

impl Policy {
    /// The marks for `now`; subtractions saturate, so no instant and no policy can overflow.
    pub fn cutoffs(&self, now: Timestamp) -> Cutoffs {
        let deadline = now.saturating_sub(self.leeway.span());
        let mark = |limit: Option<Span>| limit.map(|limit| deadline.saturating_sub(limit));
        Cutoffs {
            deadline,
            authentication: mark(self.max_age),
            activity: mark(self.idle_timeout),
        }
    }
}

/// A named pair of limits: reauthentication by age and by inactivity.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub max_age: Option<Span>,
    pub idle_timeout: Option<Span>,
}

/// The reauthentication limits of NIST SP 800-63B, section 4 (revision 3, 2017) and section 2 (revision 4, 2025), by
/// authenticator assurance level, and `none`, which exempts.
pub const PRESETS: [Preset; 7] = [
    Preset {
        name: "none",
        max_age: None,
        idle_timeout: None,
    },
    Preset {
        name: "nist-800-63b-3-aal1",
        max_age: Some(Span::from_days(30)),
        idle_timeout: None,
    },
    Preset {
        name: "nist-800-63b-3-aal2",
        max_age: Some(Span::from_hours(12)),
        idle_timeout: Some(Span::from_minutes(30)),
    },
    Preset {
        name: "nist-800-63b-3-aal3",
        max_age: Some(Span::from_hours(12)),
        idle_timeout: Some(Span::from_minutes(15)),
    },
    Preset {
        name: "nist-800-63b-4-aal1",
        max_age: Some(Span::from_days(30)),
        idle_timeout: None,
    },
    Preset {
        name: "nist-800-63b-4-aal2",
        max_age: Some(Span::from_hours(24)),
        idle_timeout: Some(Span::from_hours(1)),
    },
    Preset {
        name: "nist-800-63b-4-aal3",
        max_age: Some(Span::from_hours(12)),
        idle_timeout: Some(Span::from_minutes(15)),
    },
];

/// The policies of all tenants. A tenant's own replaces the general one whole.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    pub general: Policy,
    pub tenants: HashMap<TenantId<'static>, Policy>,
}

impl Policies {
    pub fn of(&self, tenant: &TenantId<'_>) -> &Policy {
        self.of_name(tenant.as_str())
    }

    /// The same for a tenant of the file, where another program may have written what is no [`TenantId`].
    pub fn of_name(&self, tenant: &str) -> &Policy {
        // A `TenantId<'static>` key can't be looked up by a shorter-lived one; its text can.
        self.tenants.get(tenant).unwrap_or(&self.general)
    }
}

impl std::borrow::Borrow<str> for TenantId<'static> {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn session() -> Session {
        Session {
            tenant_id: TenantId::new("t").unwrap(),
            id: SessionId::new("s").unwrap(),
            user_id: UserId::new("u").unwrap(),
            created_at: T,
            authenticated_at: None,
            last_active_at: None,
            expires_at: T.saturating_add(Span::from_days(1)),
            idle_expires_at: None,
            revoked_at: None,
            revoke_reason: None,
            amr: None,
            device_id: None,
            device_type: None,
            ip: None,
            user_agent: None,
            geoip: None,
        }
    }

    /// The last millisecond at which the session counts, found by asking at and around `deadline`.
    fn assert_ends_at(session: &Session, policy: &Policy, deadline: Timestamp) {
        let millisecond = Span::from_millis(1);
        assert!(session.is_active_at(deadline.saturating_sub(millisecond), policy));
        assert!(!session.is_active_at(deadline, policy));
        assert!(!session.is_active_at(deadline.saturating_add(millisecond), policy));
    }

    #[test]
    fn each_deadline_ends_a_session_at_its_very_millisecond() {
        let none = Policy::default();
        let day = Span::from_days(1);
        assert_ends_at(&session(), &none, T.saturating_add(day));

        let hour = Span::from_hours(1);
        let idle = Session {
            idle_expires_at: Some(T.saturating_add(hour)),
            ..session()
        };
        assert_ends_at(&idle, &none, T.saturating_add(hour));

        let aged = Policy {
            max_age: Some(hour),
            ..none
        };
        assert_ends_at(&session(), &aged, T.saturating_add(hour));
        let reauthenticated = Session {
            authenticated_at: Some(T.saturating_add(hour)),
            ..session()
        };
        assert_ends_at(
            &reauthenticated,
            &aged,
            T.saturating_add(Span::from_hours(2)),
        );

        let quiet = Policy {
            idle_timeout: Some(hour),
            ..none
        };
        assert_ends_at(&session(), &quiet, T.saturating_add(hour));
        assert_ends_at(
            &reauthenticated,
            &quiet,
            T.saturating_add(Span::from_hours(2)),
        );
        let seen = Session {
            last_active_at: Some(T.saturating_add(Span::from_hours(3))),
            ..session()
        };
        assert_ends_at(&seen, &quiet, T.saturating_add(Span::from_hours(4)));
    }

    #[test]
    fn leeway_moves_every_deadline_by_the_same() {
        let second = Span::from_millis(1_000);
        let policy = Policy {
            max_age: Some(Span::from_hours(1)),
            leeway: Leeway::new(second).unwrap(),
            ..Policy::default()
        };
        assert_ends_at(
            &session(),
            &policy,
            T.saturating_add(Span::from_hours(1)).saturating_add(second),
        );
        let stored = Policy {
            max_age: None,
            ..policy
        };
        assert_ends_at(
            &session(),
            &stored,
            T.saturating_add(Span::from_days(1)).saturating_add(second),
        );
    }

    #[test]
    fn revoked_is_over_at_any_time() {
        let later = Session {
            revoked_at: Some(T.saturating_add(Span::from_days(9))),
            ..session()
        };
        assert!(!later.is_active_at(T, &Policy::default()));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let endless = Session {
            expires_at: Timestamp::from_millis(i64::MAX),
            ..session()
        };
        let policy = Policy {
            max_age: Some(Span::from_millis(i64::MAX)),
            leeway: Leeway(60_000),
            ..Policy::default()
        };
        assert!(endless.is_active_at(T, &policy));
        assert!(endless.is_active_at(Timestamp::from_millis(i64::MIN), &policy));
        assert!(!endless.is_active_at(Timestamp::from_millis(i64::MAX), &Policy::default()));
    }

    #[test]
    fn ids_count_characters_and_refuse_the_rest() {
        assert_eq!(UserId::new("").unwrap_err(), IdFault::Empty);
        assert_eq!(UserId::new("a\u{85}").unwrap_err(), IdFault::Character);
        assert_eq!(
            UserId::new("\u{7f}".repeat(300)).unwrap_err(),
            IdFault::Character
        );
        assert!(UserId::new("😀".repeat(256)).is_ok());
        assert_eq!(
            UserId::new("😀".repeat(257)).unwrap_err(),
            IdFault::TooLong(257)
        );
        assert!(TenantId::new("!".repeat(128)).is_ok());
        assert_eq!(
            TenantId::new("~".repeat(129)).unwrap_err(),
            IdFault::TooLong(129)
        );
        assert_eq!(TenantId::new("a b").unwrap_err(), IdFault::Character);
        assert_eq!(TenantId::new("é").unwrap_err(), IdFault::Character);
    }

    #[test]
    fn leeway_is_at_most_a_minute() {
        assert_eq!(
            Leeway::new(Span::from_minutes(1)).map(Leeway::span),
            Some(Span::from_minutes(1))
        );
        assert_eq!(Leeway::new(Span::from_millis(60_001)), None);
        assert_eq!(Leeway::new(Span::from_millis(-1)), None);
    }
}
