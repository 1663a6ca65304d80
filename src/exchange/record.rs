//! One session, from the fields of an input to a checked [`Session`].

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{COUNT, Field, Names, Unknown, note_unknown};
use super::{Fault, Settings, quote};
use crate::session::{IdFault, Session, SessionId, TenantId, UserId};
use crate::time::{NotASpan, NotRfc3339, Span, Timestamp};

/// A number of milliseconds below this, in March 1973, is a number of seconds that somebody forgot to multiply.
const LEAST_MILLIS: i64 = 100_000_000_000;

const INSTANT: &str =
    "an RFC 3339 instant such as \"2026-11-23T12:00:00.001Z\", or whole milliseconds since 1970";

/// A session as it was found: its values, not yet understood.
#[derive(Default)]
pub(super) struct Record<'a> {
    values: [Value<'a>; COUNT],
    faults: Vec<Fault>,
}

#[derive(Clone, Default)]
enum Value<'a> {
    /// Not there, or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    /// What no field takes, in words.
    Other(String),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Text(text) => f.write_str(&quote(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl<'a> Record<'a> {
    /// Takes the cell of a table, where a number looks like any text.
    pub(super) fn set_cell(&mut self, field: Field, cell: &'a str) {
        self.values[field as usize] = match cell.parse() {
            Ok(number) if field.is_instant() => Value::Integer(number),
            _ => Value::Text(Cow::Borrowed(cell)),
        };
    }

    /// Notes a fault that is known before the fields are looked at.
    pub(super) fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The session, or everything that is wrong with it.
    pub(super) fn into_session(mut self, settings: &Settings) -> Result<Session, Vec<Fault>> {
        let now = settings.now;
        let id = self.id(Field::Id, SessionId::ALLOWED, SessionId::new);
        let tenant_id = self.tenant(settings.tenant.as_ref());
        let user_id = self.id(Field::UserId, UserId::ALLOWED, UserId::new);
        let is_active = self
            .text(Field::Status)
            .is_none_or(|status| status == "active");

        let created_at = self.instant_or_ago(Field::CreatedAt, Field::CreatedAgo, now);
        let authenticated_at =
            self.instant_or_ago(Field::AuthenticatedAt, Field::AuthenticatedAgo, now);
        let last_active_at = self.instant_or_ago(Field::LastActiveAt, Field::LastActiveAgo, now);
        let no_expiry = [Field::ExpiresAt, Field::ExpiresIn]
            .iter()
            .all(|field| self.is_absent(*field));
        let expires_at = self.instant_or_in(Field::ExpiresAt, Field::ExpiresIn, now);
        if no_expiry {
            self.fault(Field::ExpiresAt, "neither it nor expires_in", INSTANT);
        }
        let idle_expires_at = self.instant_or_in(Field::IdleExpiresAt, Field::IdleExpiresIn, now);
        let revoked_at = self
            .instant(Field::RevokedAt)
            .or_else(|| (!is_active).then_some(now));

        let created_at = created_at.or_else(|| expires_at.map(|expiry| expiry.min(now)));
        if let (Some(created), Some(expiry)) = (created_at, expires_at)
            && expiry < created
        {
            self.fault(
                Field::ExpiresAt,
                expiry,
                format_args!("an instant that is not before created_at, {created}"),
            );
        }

        let revoke_reason = self.text(Field::RevokeReason);
        let amr = self.text(Field::Amr);
        let device_id = self.text(Field::DeviceId);
        let device_type = self.text(Field::DeviceType);
        let ip = self.text(Field::Ip);
        let user_agent = self.text(Field::UserAgent);
        let geoip = self.text(Field::Geoip);

        match (id, tenant_id, user_id, created_at, expires_at) {
            (Some(id), Some(tenant_id), Some(user_id), Some(created_at), Some(expires_at))
                if self.faults.is_empty() =>
            {
                Ok(Session {
                    tenant_id,
                    id,
                    user_id,
                    created_at,
                    authenticated_at,
                    last_active_at,
                    expires_at,
                    idle_expires_at,
                    revoked_at,
                    revoke_reason,
                    amr,
                    device_id,
                    device_type,
                    ip,
                    user_agent,
                    geoip,
                })
            }
            _ => Err(self.faults),
        }
    }

    fn take(&mut self, field: Field) -> Value<'a> {
        std::mem::take(&mut self.values[field as usize])
    }

    fn is_absent(&self, field: Field) -> bool {
        matches!(self.values[field as usize], Value::Absent)
    }

    fn fault(&mut self, field: Field, found: impl fmt::Display, allowed: impl fmt::Display) {
        self.faults
            .push(Fault::of_field(field.name(), found, allowed));
    }

    fn text(&mut self, field: Field) -> Option<String> {
        match self.take(field) {
            Value::Absent => None,
            Value::Text(text) => Some(text.into_owned()),
            other => {
                self.fault(field, other, "a string");
                None
            }
        }
    }

    fn id<T>(
        &mut self,
        field: Field,
        allowed: &str,
        parse: fn(String) -> Result<T, IdFault>,
    ) -> Option<T> {
        let value = self.take(field);
        if let Value::Text(text) = &value
            && let Ok(id) = parse(text.clone().into_owned())
        {
            return Some(id);
        }
        self.fault(field, value, allowed);
        None
    }

    /// The tenant, which `given` stands in for and which is no other.
    fn tenant(&mut self, given: Option<&TenantId<'static>>) -> Option<TenantId<'static>> {
        let Some(given) = given else {
            return self.id(Field::TenantId, TenantId::ALLOWED, TenantId::new);
        };
        match self.take(Field::TenantId) {
            Value::Absent => {}
            Value::Text(text) if text == given.as_str() => {}
            other => {
                let allowed = format_args!("{given}, the tenant that was asked for, or none");
                self.fault(Field::TenantId, other, allowed);
                return None;
            }
        }
        Some(given.clone())
    }

    /// An instant in the file's range: from 1970 on. As a number it may lie beyond the year 9999, where RFC 3339
    /// ends: files have such instants, which mean never, and an export must come back as it went out.
    fn instant(&mut self, field: Field) -> Option<Timestamp> {
        let value = self.take(field);
        let parsed = match &value {
            Value::Absent => return None,
            Value::Text(text) => Timestamp::parse_rfc3339(text)
                .map_err(|NotRfc3339| INSTANT.to_owned())
                .and_then(in_range),
            Value::Integer(millis) if *millis < LEAST_MILLIS => Err(format!(
                "milliseconds since 1970 from {LEAST_MILLIS} on (less looks like seconds), or an RFC 3339 instant"
            )),
            Value::Integer(millis) => Ok(Timestamp::from_millis(*millis)),
            Value::Other(_) => Err(INSTANT.to_owned()),
        };
        match parsed {
            Ok(instant) => Some(instant),
            Err(allowed) => {
                self.fault(field, value, allowed);
                None
            }
        }
    }

    fn instant_or_ago(&mut self, at: Field, ago: Field, now: Timestamp) -> Option<Timestamp> {
        self.instant_or_relative(at, ago, |span| now.saturating_sub(span))
    }

    fn instant_or_in(&mut self, at: Field, from_now: Field, now: Timestamp) -> Option<Timestamp> {
        self.instant_or_relative(at, from_now, |span| now.saturating_add(span))
    }

    fn instant_or_relative(
        &mut self,
        absolute: Field,
        relative: Field,
        place: impl Fn(Span) -> Timestamp,
    ) -> Option<Timestamp> {
        if self.is_absent(relative) {
            return self.instant(absolute);
        }
        let value = self.take(relative);
        if !self.is_absent(absolute) {
            let allowed = format!("one of {} and {}", absolute.name(), relative.name());
            self.fault(
                relative,
                format_args!("{value} beside {}", absolute.name()),
                allowed,
            );
        }
        let parsed = match &value {
            Value::Text(text) => Span::parse(text).map_err(|fault| fault.to_string()),
            _ => Err(NotASpan.to_string()),
        };
        match parsed.map(place).and_then(in_range) {
            Ok(instant) => Some(instant),
            Err(allowed) => {
                self.fault(relative, value, allowed);
                None
            }
        }
    }
}

fn in_range(instant: Timestamp) -> Result<Timestamp, String> {
    if (Timestamp::from_millis(0)..=Timestamp::LAST).contains(&instant) {
        Ok(instant)
    } else {
        Err("an instant from the year 1970 to the year 9999".to_owned())
    }
}

/// Reads a session object, counting the fields that are not known.
pub(super) struct RecordSeed<'s> {
    pub(super) names: &'s Names,
    pub(super) unknown: &'s mut Unknown,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_> {
    type Value = Record<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_> {
    type Value = Record<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut record = Record::default();
        let mut given = [false; COUNT];
        while let Some(name) = map.next_key_seed(TextSeed)? {
            let Some(field) = self.names.field(&name) else {
                note_unknown(self.unknown, &name);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            record.values[field as usize] = map.next_value_seed(ValueSeed)?;
            if std::mem::replace(&mut given[field as usize], true) {
                record.fault(field, "it twice", "it once");
            }
        }
        Ok(record)
    }
}

/// Reads a string, borrowed from the input where it stands there unescaped.
pub(super) struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// Reads any value, and keeps of those that no field takes what an error sentence needs.
struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| Value::Other(number.to_string()), Value::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Other(format!("{number:?}")))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Value::Other(truth.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an object".to_owned()))
    }
}
