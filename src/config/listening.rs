//! `server.*` as far as it says where to listen and who may come in: addresses, TLS, unix sockets, and what may go in
//! the clear.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use super::keys::is_readable_by_all;
use super::raw::{Fault, Found, Key, Origin, Table, Walk};
use super::{Config, Faults, Mode, Weakness, credentials};
use crate::server::{Address, Peers, Tls, TlsFile, TlsFiles, UnixDoor};
use crate::time::Timestamp;

const ADDRESSES: &str = "\"host:port\" or \"unix:/path\", or a list of such without repetition";
pub(super) const LISTEN: Key = Key::new("server.listen", ADDRESSES);
const ADMIN_LISTEN: Key = Key::new("server.admin_listen", ADDRESSES);
const ALLOW_PLAIN: Key = Key::new("server.allow_plain", "true or false");
const CERT: Key = Key::new("server.tls.cert", PEM);
const KEY: Key = Key::new("server.tls.key", PEM);
const CLIENT_CA: Key = Key::new("server.tls.client_ca", PEM);
const PEM: &str = "the path of a PEM file";
const UNIX_MODE: Key = Key::new(
    "server.unix_mode",
    "a string of three or four octal digits up to \"0777\", such as \"0660\"",
);
const UNIX_GROUP: Key = Key::new(
    "server.unix_group",
    "a group of this machine, or its number",
);
const UNIX_PEERS: Key = Key::new(
    "server.unix_peers",
    "a list of at least one user of this machine, or group as \"group:NAME\", or their numbers",
);

/// Where to listen, and who may come in.
#[derive(Debug)]
pub struct Listening {
    pub listen: Vec<Address>,
    /// Empty where the pages for operators stand beside the operation.
    pub admin_listen: Vec<Address>,
    /// The files are read by [`Config::tls`] only, because the commands that serve nothing run as people who may not
    /// read them.
    pub tls: Option<TlsFiles>,
    pub unix: UnixDoor,
    /// Whether other machines may be served without TLS.
    allow_plain: bool,
    mode: Mode,
    /// Where `listen` and `admin_listen` were set.
    origins: [Origin; 2],
}

/// Takes the keys out of the tree; `None` where one that must be there was not allowed.
pub(super) fn take(walk: &mut Walk, root: &mut Table, mode: Option<Mode>) -> Option<Listening> {
    let listen = walk.take(root, &LISTEN, addresses);
    let admin_listen = walk
        .take(root, &ADMIN_LISTEN, addresses)
        .unwrap_or_default();
    let allow_plain = walk.take(root, &ALLOW_PLAIN, |found| found.truth());
    let (tls, is_tls_wanted) = tls_files(walk, root);
    let mode_of_files = walk.take(root, &UNIX_MODE, |found| {
        let digits = found.text()?;
        let is_octal = (3..=4).contains(&digits.len())
            && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(digits, 8).ok()?;
        (is_octal && mode <= 0o777).then_some(mode)
    });
    let group = walk.take(root, &UNIX_GROUP, |found| group(found.text()?));
    let peers = walk.take(root, &UNIX_PEERS, peers);

    for (key, addresses) in [
        (&LISTEN, listen.as_deref()),
        (&ADMIN_LISTEN, Some(admin_listen.as_slice())),
    ] {
        for address in addresses.unwrap_or_default() {
            let complaint = match mode {
                Some(Mode::Development) if !address.is_local() => {
                    at_home(&format!("\"{address}\""))
                }
                // A name is judged by what it stands for, once that is known.
                Some(Mode::Production)
                    if !address.is_local()
                        && !address.is_name()
                        && !is_tls_wanted
                        && allow_plain == Some(false) =>
                {
                    in_the_clear(&format!("\"{address}\""))
                }
                _ => continue,
            };
            walk.fault(root, key.name, complaint);
        }
    }
    if let Some(listen) = &listen {
        apart(walk, root, listen, &admin_listen);
    }
    Some(Listening {
        listen: listen?,
        admin_listen,
        tls,
        unix: UnixDoor {
            mode: mode_of_files?,
            group,
            peers,
        },
        allow_plain: allow_plain?,
        mode: mode?,
        origins: [&LISTEN, &ADMIN_LISTEN].map(|key| walk.origin_of(root, key.name)),
    })
}

/// Notes a fault where two addresses are one: nobody but this process would be in the way of its own start.
fn apart(walk: &mut Walk, root: &Table, listen: &[Address], admin_listen: &[Address]) {
    for (index, address) in listen.iter().enumerate() {
        for other in &listen[index + 1..] {
            if address.overlaps(other) {
                let complaint = format!(
                    "found \"{address}\" and \"{other}\"; allowed: addresses that don't overlap"
                );
                walk.fault(root, LISTEN.name, complaint);
            }
        }
        for admin in admin_listen {
            if address.overlaps(admin) {
                let complaint = format!(
                    "found \"{admin}\", and \"{address}\" in {}; allowed: an address of its own, or none, for \
                     /healthz and /readyz beside the operation",
                    LISTEN.name
                );
                walk.fault(root, ADMIN_LISTEN.name, complaint);
            }
        }
    }
}

fn at_home(found: &str) -> String {
    format!("found {found}; allowed in development mode: loopback addresses and unix sockets")
}

fn in_the_clear(found: &str) -> String {
    format!(
        "found {found}, where keys and answers would go in the clear to other machines; \
         allowed: loopback addresses and unix sockets, any address with TLS (server.tls.cert and server.tls.key), \
         or without it where server.allow_plain = true says so"
    )
}

fn addresses(found: &Found<'_>) -> Option<Vec<Address>> {
    let texts = found.texts().or_else(|| Some(vec![found.text()?]))?;
    let addresses: Vec<Address> = texts
        .iter()
        .map(|text| text.parse().ok())
        .collect::<Option<_>>()?;
    let distinct: HashSet<&Address> = addresses.iter().collect();
    let repeated = distinct.len() < addresses.len();
    (!addresses.is_empty() && !repeated).then_some(addresses)
}

/// The files of TLS, and whether any was named.
fn tls_files(walk: &mut Walk, root: &mut Table) -> (Option<TlsFiles>, bool) {
    let is_wanted = walk.has_table(root, "server", "tls");
    let mut path = |key| {
        walk.take(root, key, |found| {
            found
                .text()
                .filter(|path| !path.is_empty())
                .map(|path| credentials::locate(Path::new(path)))
        })
    };
    let (cert, key, client_ca) = (path(&CERT), path(&KEY), path(&CLIENT_CA));
    if is_wanted {
        for (half, value) in [(&CERT, &cert), (&KEY, &key)] {
            if value.is_none() && !walk.has_fault(root, half.name) {
                let complaint = format!("missing; allowed with server.tls: {}", half.allowed);
                walk.fault(root, half.name, complaint);
            }
        }
    }
    let files = cert.zip(key).map(|(cert, key)| TlsFiles {
        cert,
        key,
        client_ca,
    });
    (files, is_wanted)
}

fn group(text: &str) -> Option<u32> {
    let number = text.parse().ok().map(Gid::from_raw);
    let named = || Group::from_name(text).ok()?.map(|group| group.gid);
    number.or_else(named).map(Gid::as_raw)
}

fn user(text: &str) -> Option<u32> {
    let number = text.parse().ok().map(Uid::from_raw);
    let named = || User::from_name(text).ok()?.map(|user| user.uid);
    number.or_else(named).map(Uid::as_raw)
}

fn peers(found: &Found<'_>) -> Option<Peers> {
    let mut peers = Peers::default();
    for text in found.texts()? {
        match text.strip_prefix("group:") {
            Some(name) => peers.groups.push(group(name)?),
            None => peers.users.push(user(text)?),
        }
    }
    (peers != Peers::default()).then_some(peers)
}

impl Listening {
    /// Whether an address that was bound may be served though other machines can reach it: for a name, that shows only
    /// then.
    ///
    /// # Errors
    ///
    /// What a fault of the configuration says of an address that is no name.
    pub fn admit(&self, bound: SocketAddr, is_plain: bool, is_admin: bool) -> Result<(), Faults> {
        let found = format!("a name or a socket that stands for {bound}");
        let complaint = match self.mode {
            Mode::Development => at_home(&found),
            Mode::Production if is_plain && !self.allow_plain => in_the_clear(&found),
            Mode::Production => return Ok(()),
        };
        let key = if is_admin { &ADMIN_LISTEN } else { &LISTEN };
        Err(Faults(vec![Fault {
            origin: self.origins[usize::from(is_admin)].clone(),
            key: key.name.to_owned(),
            complaint,
        }]))
    }
}

impl Config {
    /// Reads the files of TLS, where it is configured.
    pub fn tls(&self) -> Result<Option<Tls>, Faults> {
        let Some(files) = &self.server.listening.tls else {
            return Ok(None);
        };
        let faults = match Tls::open(files.clone()) {
            Ok(tls) => return Ok(Some(tls)),
            Err(faults) => faults,
        };
        let faults = faults.into_iter().map(|fault| {
            let key = match fault.file {
                TlsFile::Cert => &CERT,
                TlsFile::Key => &KEY,
                TlsFile::ClientCa => &CLIENT_CA,
            };
            self.fault(key, fault.to_string())
        });
        Err(Faults(faults.collect()))
    }

    fn fault(&self, key: &Key, complaint: String) -> Fault {
        let mut settings = self.settings.iter();
        let setting = settings.find(|setting| setting.key == key.name);
        Fault {
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            key: key.name.to_owned(),
            complaint,
        }
    }
}

/// What could be better about files of TLS that serve.
pub fn tls_weaknesses(tls: &Tls, now: Timestamp) -> Vec<Weakness> {
    let mut weaknesses = Vec::new();
    let mut add = |key: &Key, found: String, readable: Option<PathBuf>| {
        weaknesses.push(Weakness {
            key: key.name.to_owned(),
            found,
            readable,
        });
    };
    if let Some(validity) = tls.validity() {
        if now > validity.until {
            let found = format!(
                "the certificate expired at {}: callers refuse it",
                validity.until
            );
            add(&CERT, found, None);
        } else if now < validity.from {
            let found = format!(
                "the certificate begins at {}: until then callers refuse it",
                validity.from
            );
            add(&CERT, found, None);
        }
    }
    let path = tls.key_file();
    if is_readable_by_all(&path) {
        let found = format!("everybody may read its file {}", path.display());
        add(&KEY, found, Some(path));
    }
    weaknesses
}
