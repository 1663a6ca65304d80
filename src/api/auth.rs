//! Who asks: internal API keys, known by their SHA-256 only.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::headers::Field;
use super::problem::{Kind, Problem};
use crate::session::TenantId;
use crate::time::Timestamp;

/// The SHA-256 of a key. Equality takes the same time wherever two differ.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(key: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits of either case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
            .collect::<Option<_>>()?;
        let (pairs, []) = digits.as_chunks() else {
            return None;
        };
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        bytes.try_into().ok().map(Self)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    /// Eight bytes of it are as good a hash as any: nobody can choose what a SHA-256 begins with.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// Takes the one number that a [`Digest`] gives for the hash.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// In lower-case hexadecimal, as a configuration file takes it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(hidden)")
    }
}

/// One internal API key.
#[derive(Debug)]
pub struct ApiKey {
    /// For logs.
    pub name: String,
    pub digest: Digest,
    /// The tenants it may ask about; `None` for all.
    pub tenants: Option<HashSet<TenantId<'static>>>,
    /// The first instant at which it is no longer known.
    pub not_after: Option<Timestamp>,
}

impl ApiKey {
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.not_after.is_some_and(|end| now >= end)
    }

    pub fn allows(&self, tenant: &TenantId<'_>) -> bool {
        self.tenants
            .as_ref()
            .is_none_or(|tenants| tenants.contains(tenant.as_str()))
    }
}

/// All keys, found by digest: the time to find one does not grow with their number.
#[derive(Debug, Default)]
pub struct Keyring(HashMap<Digest, ApiKey, BuildHasherDefault<AsItIs>>);

impl Keyring {
    pub fn add(&mut self, key: ApiKey) {
        self.0.insert(key.digest, key);
    }

    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.0.values()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that the request carries in the header `name`. No key, an unknown one, an expired one and two
    /// get one answer, so that nothing is learnt from it.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        now: Timestamp,
    ) -> Result<&ApiKey, Problem> {
        let key = match Field::of(headers, name) {
            Field::Once(value) => self.0.get(&Digest::of(value.as_bytes())),
            Field::Absent | Field::Repeated => None,
        };
        key.filter(|key| !key.is_expired_at(now))
            .ok_or_else(|| Problem::new(Kind::InvalidApiKey))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"demo-key");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(
            Digest::from_hex(&digest.to_string().to_uppercase()),
            Some(digest)
        );
        // FIPS 180-2, appendix B.1
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        for text in [
            "",
            "ba",
            &abc[1..],
            &format!("{abc}0"),
            &format!("{abc}00"),
            &abc.replace('a', "g"),
        ] {
            assert_eq!(Digest::from_hex(text), None, "{text}");
        }
    }

    #[test]
    fn a_debug_print_shows_no_digest() {
        assert_eq!(format!("{:?}", Digest::of(b"abc")), "Digest(hidden)");
    }
}
