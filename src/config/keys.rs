//! `[[auth.keys]]` and `INTERNAL_API_KEY`: from what the configuration says of a key to the digest that requests
//! are compared with. A key given in clear is digested here and held nowhere: what was read of a file or a variable is
//! wiped. Of a key that stands in the configuration itself the parser keeps copies that nobody can reach.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::raw::{Fault, Found, Key, Origin, Table, Walk};
use super::{Config, Faults, Mode, credentials};
use crate::api::auth::{ApiKey, Digest, Keyring};
use crate::session::TenantId;
use crate::time::Timestamp;

/// Upstream's variable: one more key, for all tenants.
const VARIABLE: &str = "INTERNAL_API_KEY";

/// The fewest characters of a key in production.
const MIN_LENGTH: usize = 32;

/// The most bytes of a key file: it holds one line.
const MAX_FILE: usize = 4096;

const KEYS: Key = Key::secret(
    "auth.keys",
    "tables [[auth.keys]], each with a name and one of sha256, key_file and key",
);
/// What [`is_key_name`] takes, in words.
pub const KEY_NAME_ALLOWED: &str =
    "1 to 64 visible ASCII characters, a name for logs that no other key has";
const NAME: Key = Key::new("name", KEY_NAME_ALLOWED);
const SHA256: Key = Key::secret("sha256", "the key's SHA-256 in 64 hexadecimal digits");
const KEY_FILE: Key = Key::new(
    "key_file",
    "the path of a file that holds the key, or the name of a systemd credential",
);
const KEY: Key = Key::secret(
    "key",
    "a string without control characters and without a blank at either end, in production of at least 32 characters",
);
const TENANTS: Key = Key::new(
    "tenants",
    "a list of at least one tenant id, each of 1 to 128 visible ASCII characters",
);
const MAX_RATE: Key = Key::new(
    "max_rate",
    "a whole number of requests a second from 1 to 1000000",
);
const NOT_AFTER: Key = Key::new(
    "not_after",
    "an RFC 3339 instant such as 2027-01-01T00:00:00Z",
);

/// One key as the configuration describes it.
#[derive(Debug)]
pub struct KeySpec {
    pub name: String,
    /// `auth.keys[0]`, for faults that show later.
    place: String,
    origin: Origin,
    secret: Secret,
    tenants: Option<HashSet<TenantId<'static>>>,
    not_after: Option<Timestamp>,
    max_rate: Option<NonZeroU32>,
}

#[derive(Debug)]
enum Secret {
    Known(Digest),
    InClear { digest: Digest, guessable: bool },
    InFile(PathBuf),
}

/// What is allowed of a key and is not good all the same.
#[derive(Debug)]
pub struct Weakness {
    /// The name of the key.
    pub key: String,
    pub found: String,
    /// The file that too many may read.
    pub readable: Option<PathBuf>,
}

/// Takes `auth.keys` out of the tree.
pub(super) fn take(walk: &mut Walk, root: &mut Table, mode: Mode) -> Vec<KeySpec> {
    let mut names = HashSet::new();
    let mut specs = Vec::new();
    for mut table in walk.take_list(root, &KEYS) {
        let name = walk.take(&mut table, &NAME, |found| {
            let name = found.text()?;
            (is_key_name(name) && names.insert(name.to_owned())).then(|| name.to_owned())
        });
        let given = [&SHA256, &KEY_FILE, &KEY].map(|key| walk.has(&table, key));
        let sha256 = walk.take(&mut table, &SHA256, |found| {
            Digest::from_hex(found.text()?).map(Secret::Known)
        });
        let in_file = walk.take(&mut table, &KEY_FILE, |found| {
            found
                .text()
                .filter(|path| !path.is_empty())
                .map(|path| Secret::InFile(path.into()))
        });
        let in_clear = walk.take(&mut table, &KEY, |found| {
            let key = found.text()?;
            check(key.as_bytes(), mode).ok().map(|()| Secret::InClear {
                digest: Digest::of(key.as_bytes()),
                guessable: is_guessable(key.as_bytes()),
            })
        });
        let tenants = walk.take(&mut table, &TENANTS, tenants);
        let not_after = walk.take(&mut table, &NOT_AFTER, |found| {
            Timestamp::parse_rfc3339(found.instant()?).ok()
        });
        let max_rate = walk.take(&mut table, &MAX_RATE, |found| {
            let rate = found.integer().filter(|rate| *rate <= 1_000_000)?;
            NonZeroU32::new(rate)
        });

        if name.is_none() && !walk.has_fault(&table, NAME.name) {
            walk.fault(
                &table,
                NAME.name,
                format!("missing; allowed: {}", NAME.allowed),
            );
        }
        if given.iter().filter(|given| **given).count() != 1 {
            let found: Vec<&str> = [&SHA256, &KEY_FILE, &KEY]
                .iter()
                .zip(given)
                .filter_map(|(key, given)| given.then_some(key.name))
                .collect();
            let found = if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(" and ")
            };
            walk.fault(
                &table,
                "",
                format!("found {found}; allowed: one of sha256, key_file and key"),
            );
        }
        let (place, origin) = (table.path.clone(), table.origin.clone());
        if let (Some(name), Some(secret)) = (name, sha256.or(in_file).or(in_clear)) {
            specs.push(KeySpec {
                name,
                place,
                origin,
                secret,
                tenants,
                not_after,
                max_rate,
            });
        }
        walk.finish(table);
    }
    specs
}

fn tenants(found: &Found<'_>) -> Option<HashSet<TenantId<'static>>> {
    let tenants = found.texts()?;
    let tenants: HashSet<_> = tenants
        .into_iter()
        .map(|tenant| TenantId::new(tenant.to_owned()).ok())
        .collect::<Option<_>>()?;
    (!tenants.is_empty()).then_some(tenants)
}

/// Whether a key can be called so.
pub fn is_key_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn names(config: &Config) -> Vec<&str> {
    let variable = std::env::var_os(VARIABLE).map(|_| VARIABLE);
    let specs = config.auth.keys.iter().map(|spec| spec.name.as_str());
    let mut names: Vec<&str> = specs.chain(variable).collect();
    names.sort_unstable();
    names
}

/// Reads the key files and the variable; notes every fault.
pub(super) fn load(config: &Config) -> Result<Keyring, Faults> {
    let mut faults = Vec::new();
    let mut names: HashMap<Digest, String> = HashMap::new();
    let mut keyring = Keyring::default();
    let mut add = |key: ApiKey, origin: &Origin, place: &str, faults: &mut Vec<Fault>| {
        if let Some(other) = names.insert(key.digest, key.name.clone()) {
            let complaint =
                format!("found the same key as that of {other:?}; allowed: one name for each key");
            faults.push(Fault {
                origin: origin.clone(),
                key: place.to_owned(),
                complaint,
            });
        }
        keyring.add(key);
    };
    for spec in &config.auth.keys {
        let digest = match &spec.secret {
            Secret::Known(digest) | Secret::InClear { digest, .. } => Ok(*digest),
            Secret::InFile(path) => read(path, config.mode),
        };
        match digest {
            Ok(digest) => {
                let key = ApiKey {
                    name: spec.name.clone(),
                    digest,
                    tenants: spec.tenants.clone(),
                    not_after: spec.not_after,
                    max_rate: spec.max_rate,
                };
                add(key, &spec.origin, &spec.place, &mut faults);
            }
            Err(complaint) => {
                let key = format!("{}.{}", spec.place, KEY_FILE.name);
                faults.push(Fault {
                    origin: spec.origin.clone(),
                    key,
                    complaint,
                });
            }
        }
    }
    if let Some(value) = std::env::var_os(VARIABLE) {
        let value = Zeroizing::new(value.into_encoded_bytes());
        let origin = Origin::Variable(VARIABLE.to_owned());
        match check(&value, config.mode) {
            Ok(()) => {
                let key = ApiKey {
                    name: VARIABLE.to_owned(),
                    digest: Digest::of(&value),
                    tenants: None,
                    not_after: None,
                    max_rate: None,
                };
                add(key, &origin, "", &mut faults);
            }
            Err(complaint) => faults.push(Fault {
                origin,
                key: String::new(),
                complaint,
            }),
        }
    }
    if faults.is_empty() {
        Ok(keyring)
    } else {
        Err(Faults(faults))
    }
}

/// Looks at each key for more than [`load`] requires.
pub(super) fn weaknesses(config: &Config) -> Vec<Weakness> {
    let mut weaknesses = Vec::new();
    let mut add = |key: &str, found: String, readable: Option<&Path>| {
        weaknesses.push(Weakness {
            key: key.to_owned(),
            found,
            readable: readable.map(Path::to_owned),
        });
    };
    const GUESSABLE: &str = "it is made of very few different characters, which can be guessed";
    for spec in &config.auth.keys {
        let name = spec.name.as_str();
        let guessable = match &spec.secret {
            Secret::Known(_) => false,
            Secret::InClear { guessable, .. } => {
                let found = "it stands in clear in the configuration, where its sha256 would do";
                add(name, found.to_owned(), None);
                if let Origin::File(path) = &spec.origin
                    && is_readable_by_all(path)
                {
                    let found = format!("everybody may read {}, where it stands", path.display());
                    add(name, found, Some(path));
                }
                *guessable
            }
            Secret::InFile(path) => {
                let path = credentials::locate(path);
                if is_readable_by_all(&path) {
                    let found = format!("everybody may read its file {}", path.display());
                    add(name, found, Some(&path));
                }
                contents(&path).is_ok_and(|key| is_guessable(key.trim_ascii_end()))
            }
        };
        if guessable {
            add(name, GUESSABLE.to_owned(), None);
        }
    }
    let variable =
        std::env::var_os(VARIABLE).map(|value| Zeroizing::new(value.into_encoded_bytes()));
    if variable.is_some_and(|value| is_guessable(&value)) {
        add(VARIABLE, GUESSABLE.to_owned(), None);
    }
    weaknesses
}

/// Whether a key can't be random: one of 32 random decimal digits has so few different ones once in a thousand.
fn is_guessable(key: &[u8]) -> bool {
    key.iter().collect::<HashSet<_>>().len() < 8
}

pub(super) fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

/// The digest of the key in a file, without the one newline that may end it.
fn read(path: &Path, mode: Mode) -> Result<Digest, String> {
    let place = credentials::locate(path);
    let text = contents(&place).map_err(|why| match credentials::folder() {
        Some(folder) if path.is_relative() && place == path => {
            format!("{why}; nor is there a credential of that name in {folder:?}")
        }
        _ => why,
    })?;
    let key = text.strip_suffix(b"\n").unwrap_or(&text);
    check(key, mode).map_err(|complaint| format!("{place:?}: {complaint}"))?;
    Ok(Digest::of(key))
}

/// What a key file holds, wiped when it is dropped. A pipe without a writer must hold nobody up, nor a device without
/// an end fill the memory.
fn contents(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: io::Error| format!("can't read {path:?}: {error}");
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    let kind = file.metadata().map_err(unreadable)?;
    if !kind.is_file() {
        let found = if kind.is_dir() {
            "a directory"
        } else {
            "a pipe or device"
        };
        return Err(format!("found {found} in {path:?}; allowed: a file"));
    }
    // With room for all of it, so that no part is left behind where a smaller buffer was.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() > MAX_FILE {
        let size = kind.len().max(text.len() as u64);
        return Err(format!(
            "found {size} bytes in {path:?}; allowed: one key of up to {MAX_FILE} bytes"
        ));
    }
    Ok(text)
}

/// Whether a caller could send the key in a header field at all, and whether it is long enough to keep.
fn check(key: &[u8], mode: Mode) -> Result<(), String> {
    let length = str::from_utf8(key).map_or(key.len(), |key| key.chars().count());
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_whitespace());
    let found = if key.is_empty() {
        "an empty key".to_owned()
    } else if key.iter().any(u8::is_ascii_control) {
        "a key with a control character".to_owned()
    } else if blank(key.first()) || blank(key.last()) {
        "a key with a blank at its end".to_owned()
    } else if mode == Mode::Production && length < MIN_LENGTH {
        format!("a key of {length} characters")
    } else {
        return Ok(());
    };
    Err(format!("found {found}; allowed: {}", KEY.allowed))
}
