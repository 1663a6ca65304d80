//! The fields of a session and the names that an input has for them.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The fields of a session, by the names of upstream's export and those for instants relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    Id,
    TenantId,
    UserId,
    Status,
    CreatedAt,
    CreatedAgo,
    AuthenticatedAt,
    AuthenticatedAgo,
    LastActiveAt,
    LastActiveAgo,
    ExpiresAt,
    ExpiresIn,
    IdleExpiresAt,
    IdleExpiresIn,
    RevokedAt,
    RevokeReason,
    Amr,
    DeviceId,
    DeviceType,
    Ip,
    UserAgent,
    Geoip,
}

/// Each field and its name, in the order of [`Field`].
const FIELDS: [(Field, &str); COUNT] = [
    (Field::Id, "id"),
    (Field::TenantId, "tenant_id"),
    (Field::UserId, "user_id"),
    (Field::Status, "status"),
    (Field::CreatedAt, "created_at"),
    (Field::CreatedAgo, "created_ago"),
    (Field::AuthenticatedAt, "authenticated_at"),
    (Field::AuthenticatedAgo, "authenticated_ago"),
    (Field::LastActiveAt, "last_active_at"),
    (Field::LastActiveAgo, "last_active_ago"),
    (Field::ExpiresAt, "expires_at"),
    (Field::ExpiresIn, "expires_in"),
    (Field::IdleExpiresAt, "idle_expires_at"),
    (Field::IdleExpiresIn, "idle_expires_in"),
    (Field::RevokedAt, "revoked_at"),
    (Field::RevokeReason, "revoke_reason"),
    (Field::Amr, "amr"),
    (Field::DeviceId, "device_id"),
    (Field::DeviceType, "device_type"),
    (Field::Ip, "ip"),
    (Field::UserAgent, "user_agent"),
    (Field::Geoip, "geoip"),
];

/// The number of fields.
pub(super) const COUNT: usize = Field::Geoip as usize + 1;

impl Field {
    pub(super) fn name(self) -> &'static str {
        FIELDS[self as usize].1
    }

    /// Whether it holds an instant that may come as a number.
    pub(super) fn is_instant(self) -> bool {
        self.name().ends_with("_at")
    }

    /// Whether the file has it as a text for which an empty one is not the same as none.
    pub(super) fn is_free_text(self) -> bool {
        self as usize >= Field::RevokeReason as usize
    }
}

/// `our field = their name`, as `--map` takes it.
#[derive(Clone, Debug)]
pub struct Rename {
    field: Field,
    name: String,
}

impl Rename {
    /// Reads `user_id=uid`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((field, name)) = text.split_once('=').filter(|(_, name)| !name.is_empty()) else {
            return Err(
                "it is no pair; allowed: a field and the input's name for it, such as user_id=uid"
                    .to_owned(),
            );
        };
        match FIELDS.iter().find(|(_, known)| *known == field) {
            Some((field, _)) => Ok(Self {
                field: *field,
                name: name.to_owned(),
            }),
            None => {
                let known: Vec<&str> = FIELDS.iter().map(|(_, name)| *name).collect();
                Err(format!(
                    "there is no field {field:?}; allowed: {}",
                    known.join(", ")
                ))
            }
        }
    }
}

/// An input's name for each field.
#[derive(Clone, Debug)]
pub struct Names([Cow<'static, str>; COUNT]);

impl Default for Names {
    fn default() -> Self {
        Self(FIELDS.map(|(_, name)| Cow::Borrowed(name)))
    }
}

impl Names {
    /// The usual names but for those given. A name can't be that of two fields.
    pub fn with(renames: &[Rename]) -> Result<Self, String> {
        let mut names = Self::default();
        for (index, Rename { field, name }) in renames.iter().enumerate() {
            if renames[..index].iter().any(|other| other.field == *field) {
                return Err(format!(
                    "found two names for {}; allowed: one",
                    field.name()
                ));
            }
            names.0[*field as usize] = Cow::Owned(name.clone());
        }
        for (index, name) in names.0.iter().enumerate() {
            if let Some(other) = names.0[..index].iter().position(|other| other == name) {
                return Err(format!(
                    "found {name:?} as the name of {} and of {}; allowed: a name of its own for each field",
                    FIELDS[other].1, FIELDS[index].1
                ));
            }
        }
        Ok(names)
    }

    /// The input's name for `field`.
    pub(super) fn of(&self, field: Field) -> &str {
        &self.0[field as usize]
    }

    pub(super) fn field(&self, name: &str) -> Option<Field> {
        let index = self.0.iter().position(|known| known == name)?;
        Some(FIELDS[index].0)
    }
}

/// How often each unknown field was met.
pub type Unknown = BTreeMap<String, u64>;

/// The most names of unknown fields that are remembered: a hostile input can make up as many as it likes.
const MOST_UNKNOWN: usize = 100;

pub(super) fn note_unknown(unknown: &mut Unknown, name: &str) {
    if let Some(count) = unknown.get_mut(name) {
        *count += 1;
    } else if unknown.len() < MOST_UNKNOWN {
        unknown.insert(name.to_owned(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_fields() {
        for (index, (field, _)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, index);
        }
    }

    #[test]
    fn a_name_is_that_of_one_field() {
        let names = |renames: &[&str]| {
            let renames: Vec<Rename> = renames
                .iter()
                .map(|text| Rename::parse(text).unwrap())
                .collect();
            Names::with(&renames)
        };
        let swapped = names(&["id=user_id", "user_id=id"]).unwrap();
        assert_eq!(swapped.field("id"), Some(Field::UserId));
        assert_eq!(swapped.field("user_id"), Some(Field::Id));
        assert_eq!(names(&["id=sid"]).unwrap().field("id"), None);
        assert!(names(&["id=user_id"]).is_err());
        assert!(names(&["id=a", "id=b"]).is_err());
        assert!(names(&["id=a", "user_id=a"]).is_err());
        for nonsense in ["", "id", "id=", "colour=x"] {
            assert!(Rename::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
