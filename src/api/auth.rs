//! Who asks: internal API keys, known by their SHA-256 only.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::headers::Field;
use super::problem::Problem;
use super::rate::{Limit, RETRY_AFTER};
use crate::metrics::{KeyUses, PerWorker};
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

/// One internal API key, as the configuration gives it.
#[derive(Debug)]
pub struct ApiKey {
    /// For logs and metrics; no two keys share one.
    pub name: String,
    pub digest: Digest,
    /// The tenants it may ask about; `None` for all.
    pub tenants: Option<HashSet<TenantId<'static>>>,
    /// The first instant at which it is no longer known.
    pub not_after: Option<Timestamp>,
    /// Requests a second; `None` where there is no limit.
    pub max_rate: Option<NonZeroU32>,
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

/// All keys of a configuration, each with a digest and a name that no other has.
#[derive(Debug, Default)]
pub struct Keyring(Vec<ApiKey>);

impl Keyring {
    pub fn add(&mut self, key: ApiKey) {
        self.0.push(key);
    }

    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One key at work: what it may do, and what it has done.
pub(super) struct Caller {
    pub(super) key: ApiKey,
    /// Handed on from one reload to the next by the key's name.
    pub(super) uses: Arc<PerWorker<KeyUses>>,
    /// Handed on from one reload to the next while key and rate are the same.
    limit: Option<Arc<Limit>>,
}

impl Caller {
    /// Takes one request off the key's rate, if it has one, or turns it away.
    pub(super) fn take_turn(&self) -> Result<(), Problem> {
        match &self.limit {
            Some(limit) if !limit.admits() => Err(Problem::too_many_requests(RETRY_AFTER)),
            _ => Ok(()),
        }
    }
}

/// Why a request has no caller. The client is not told which it is, so that nothing is learnt from the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    Repeated,
    Unknown,
    Expired,
}

/// All keys at work, found by digest: the time to find one does not grow with their number.
#[derive(Default)]
pub(super) struct Callers(HashMap<Digest, Arc<Caller>, BuildHasherDefault<AsItIs>>);

impl Callers {
    /// The keys of `keyring`, which go on from where they stood in `before`.
    pub(super) fn new(keyring: Keyring, workers: usize, before: &Self) -> Self {
        let by_name: HashMap<&str, &Arc<Caller>> = before
            .iter()
            .map(|old| (old.key.name.as_str(), old))
            .collect();
        let caller = |key: ApiKey| {
            let uses = by_name
                .get(key.name.as_str())
                .map(|old| Arc::clone(&old.uses));
            let same_limit = |max_rate| {
                let old = before.0.get(&key.digest)?.limit.as_ref()?;
                (old.max_rate == max_rate).then(|| Arc::clone(old))
            };
            let limit = key.max_rate.map(|max_rate| {
                same_limit(max_rate).unwrap_or_else(|| Arc::new(Limit::new(max_rate)))
            });
            let uses = uses.unwrap_or_else(|| Arc::new(PerWorker::new(workers)));
            (key.digest, Arc::new(Caller { key, uses, limit }))
        };
        Self(keyring.0.into_iter().map(caller).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.0.values()
    }

    /// The key that the request carries in the header `name`.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        name: &HeaderName,
        now: Timestamp,
    ) -> Result<&Arc<Caller>, Refusal> {
        let value = match Field::of(headers, name) {
            Field::Once(value) => value,
            Field::Absent => return Err(Refusal::Missing),
            Field::Repeated => return Err(Refusal::Repeated),
        };
        match self.0.get(&Digest::of(value.as_bytes())) {
            Some(caller) if caller.key.is_expired_at(now) => Err(Refusal::Expired),
            Some(caller) => Ok(caller),
            None => Err(Refusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(keys: &[(&str, &str, u32)], before: &Callers) -> Callers {
        let mut keyring = Keyring::default();
        for (name, key, max_rate) in keys {
            keyring.add(ApiKey {
                name: (*name).to_owned(),
                digest: Digest::of(key.as_bytes()),
                tenants: None,
                not_after: None,
                max_rate: NonZeroU32::new(*max_rate),
            });
        }
        Callers::new(keyring, 1, before)
    }

    fn caller<'c>(callers: &'c Callers, key: &str) -> &'c Caller {
        &callers.0[&Digest::of(key.as_bytes())]
    }

    #[test]
    fn a_reload_neither_refills_an_allowance_nor_forgets_a_use() {
        let before = callers(
            &[("a", "1", 1), ("b", "2", 1), ("c", "3", 1)],
            &Callers::default(),
        );
        for key in ["1", "2", "3"] {
            assert!(caller(&before, key).take_turn().is_ok());
            caller(&before, key).uses.of(0).count(200);
        }
        // "a" stays, "b" is renamed, "c" has a new rate; "d" is new, and so is the key of "b".
        let after = callers(
            &[
                ("a", "1", 1),
                ("e", "2", 1),
                ("c", "3", 2),
                ("d", "4", 1),
                ("b", "5", 1),
            ],
            &before,
        );
        for (key, is_spent, uses) in [
            ("1", true, 1),
            ("2", true, 0),
            ("3", false, 1),
            ("4", false, 0),
            ("5", false, 1),
        ] {
            let caller = caller(&after, key);
            assert_eq!(caller.uses.sum(|uses| &uses.succeeded), uses, "{key}");
            assert_eq!(caller.take_turn().is_err(), is_spent, "{key}");
        }
    }

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
