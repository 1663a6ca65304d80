//! Configuration: defaults, then a file, then environment variables, then flags, merged by figment and parsed
//! once into [`Config`]. Nothing is checked again after that.
//!
//! Every fault is reported, not only the first, each with its source, its key, what was found and what is
//! allowed. `raw` is the walk that makes this possible; `keys` is the part that deals with secrets, `listening` the one
//! that says who may come in and how, `limits` that with what callers may take; `values` keeps from figment's parser
//! what it falls over.

mod credentials;
mod keys;
mod limits;
mod listening;
mod raw;
mod values;
mod variables;
mod watching;

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use figment::value::Value;
use hyper::header::HeaderName;
use thiserror::Error;

pub use keys::{KEY_NAME_ALLOWED, KeySpec, Weakness, is_key_name};
pub use listening::{Listening, tls_weaknesses};
pub use raw::{Fault, Origin, Setting, Shown};
pub use watching::Watching;

use crate::api::FrameLimits;
use crate::api::auth::Keyring;
use crate::server::{self, workers};
use crate::session::{Leeway, PRESETS, Policies, Policy, TenantId};
use crate::store::{Options, Snapshot};
use crate::telemetry::{self, Level};
use crate::time::Span;
use raw::{ENV_PREFIX, Flag, Key, Table, Walk};

/// The variable that names the configuration file.
const FILE_VARIABLE: &str = "SESSILE_CONFIG";

/// Where a file is looked for when none is named, in this order.
const FILE_PLACES: [&str; 2] = ["sessile.toml", "/etc/sessile/sessile.toml"];

/// The configuration, checked and final.
#[derive(Debug)]
pub struct Config {
    pub mode: Mode,
    pub server: Server,
    pub database: Database,
    pub watching: Watching,
    pub auth: Auth,
    pub policies: Policies,
    pub problems_base_url: String,
    pub service_name: String,
    pub log: Log,
    /// The file that was read, where there was one.
    pub file: Option<PathBuf>,
    /// Every key with its value and where that came from, for people to read; secrets are hidden.
    pub settings: Vec<Setting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Production,
    /// For tests: a request may say what time it is, and faults show the offending value.
    Development,
}

#[derive(Debug)]
pub struct Server {
    pub listening: Listening,
    pub max_in_flight: usize,
    pub limits: server::Limits,
    pub frame: FrameLimits,
    /// How long questions are still answered after a signal, while `/readyz` sends callers elsewhere.
    pub drain_delay: Duration,
}

#[derive(Debug)]
pub struct Database {
    pub path: PathBuf,
    pub reading: Options,
    /// How often the file is checked in the background; `None` for never.
    pub integrity_check_interval: Option<Duration>,
}

#[derive(Debug)]
pub struct Auth {
    pub header: HeaderName,
    /// What the file says of the keys. Key files are read by [`Config::keyring`] only, because the commands that
    /// need no key run as people who may not read them.
    pub keys: Vec<KeySpec>,
}

#[derive(Debug)]
pub struct Log {
    pub level: Level,
    pub format: telemetry::Format,
}

/// What the command line says of the configuration.
#[derive(Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Vec<String>,
    pub database: Option<String>,
    pub mode: Option<String>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
}

/// All that is wrong with the configuration.
#[derive(Debug, Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "the configuration has a fault\n  {only}"),
            many => {
                write!(f, "the configuration has {} faults", many.len())?;
                many.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

const MODE: Key = Key::new("mode", "\"production\" or \"development\"");
const MAX_IN_FLIGHT: Key = Key::new("server.max_in_flight", "a whole number from 1 to 1000000");
const DATABASE_PATH: Key = Key::new("database.path", "the path of a file");
const DRAIN_DELAY: Key = Key::new("server.drain_delay", "a span from \"0s\" to \"60s\"");
const POOL_SIZE: Key = Key::new("database.pool_size", "a whole number from 1 to 1024");
const SNAPSHOT: Key = Key::new("database.snapshot", "\"held\" or \"per-query\"");
const INTEGRITY_CHECK_INTERVAL: Key = Key::new("database.integrity_check_interval", watching::SPAN);
const AUTH_HEADER: Key = Key::new(
    "auth.header",
    "the name of a header field that this server does not use for anything else",
);
const LEEWAY: Key = Key::new("sessions.leeway", "a span from \"0s\" to \"60s\"");
const PRESET: Key = Key::new(
    "preset",
    "\"nist-800-63b-3-aal1\", \"nist-800-63b-3-aal2\", \"nist-800-63b-3-aal3\", \"nist-800-63b-4-aal1\", \
     \"nist-800-63b-4-aal2\", \"nist-800-63b-4-aal3\" or \"none\"",
);
const MAX_AGE: Key = Key::new("max_age", LIMIT);
const IDLE_TIMEOUT: Key = Key::new("idle_timeout", LIMIT);
const LIMIT: &str = "a span over zero, such as \"30m\", \"12h\" or \"30d\"";
const POLICY: Key = Key::new(
    "sessions.policy",
    "a table of preset, max_age, idle_timeout and tenants",
);
const TENANTS: Key = Key::new(
    "tenants",
    "a table for each tenant, with preset, max_age or idle_timeout",
);
const BASE_URL: Key = Key::new(
    "problems.base_url",
    "a URI or a path, in visible ASCII, that ends in \"/\", \"#\", \"=\" or \":\"",
);
const SERVICE_NAME: Key = Key::new(
    "service.name",
    "1 to 64 characters from A-Z, a-z, 0-9, \".\", \"_\" and \"-\"",
);
const LOG_LEVEL: Key = Key::new(
    "log.level",
    "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
);
const LOG_FORMAT: Key = Key::new("log.format", "\"auto\", \"text\", \"json\" or \"journald\"");

/// Header fields that `auth.header` can't be, because they have a meaning of their own here.
const TAKEN_HEADERS: [&str; 12] = [
    "accept",
    "accept-language",
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "traceparent",
    "transfer-encoding",
    "x-request-id",
    "x-sessile-now",
    "x-tenant-id",
];

/// The longest policy limit: it keeps every sum of instants far from overflow, and no session lives so long.
const LIMIT_MAX: Span = Span::from_days(100 * 366);

impl Config {
    /// Reads the configuration of this process.
    pub fn load(flags: &Flags) -> Result<Self, Faults> {
        Self::read(flags, find_file(flags), None)
    }

    /// Reads the configuration anew for a process that runs by this one: from the same file, and by the rules of the
    /// same mode, which can't change while it runs.
    pub fn reload(&self, flags: &Flags) -> Result<Self, Faults> {
        let file = match &self.file {
            Some(file) => {
                readable(file.clone(), Origin::Default, std::fs::metadata(file)).map(Some)
            }
            None => find_file(flags),
        };
        Self::read(flags, file, Some(self.mode))
    }

    fn read(
        flags: &Flags,
        file: Result<Option<PathBuf>, Fault>,
        mode: Option<Mode>,
    ) -> Result<Self, Faults> {
        let faults = values::faults(std::env::vars_os());
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        let file = file.map_err(|fault| Faults(vec![fault]))?;
        let mut figment = Figment::from(Toml::string(&defaults()));
        if let Some(file) = &file {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment.merge(Env::prefixed(ENV_PREFIX).ignore(&["config"]).split("__"));
        let faults = variables::faults(std::env::vars_os());
        Self::parse(merge_flags(figment, flags), file, mode, faults)
    }

    /// The configuration of a process that has no file and minds no environment, as a demonstration has not.
    pub fn from_flags(flags: &Flags) -> Result<Self, Faults> {
        let figment = merge_flags(Figment::from(Toml::string(&defaults())), flags);
        Self::parse(figment, None, None, Vec::new())
    }

    /// `mode`, where there is one, stands in for that of the sources; `faults` are those found before.
    fn parse(
        figment: Figment,
        file: Option<PathBuf>,
        mode: Option<Mode>,
        faults: Vec<Fault>,
    ) -> Result<Self, Faults> {
        let (mut walk, mut root) =
            Walk::new(figment, file.as_deref()).map_err(|fault| Faults(vec![fault]))?;
        let walk = &mut walk;
        let config = Self::walk(walk, &mut root, file, mode);
        walk.finish(root);
        walk.close();
        walk.faults.extend(faults);
        match config {
            Some(config) if walk.faults.is_empty() => Ok(Self {
                settings: std::mem::take(&mut walk.settings),
                ..config
            }),
            _ => Err(Faults(std::mem::take(&mut walk.faults))),
        }
    }

    /// Takes every key, whatever the others are like; `None` where one that must be there was not allowed.
    fn walk(
        walk: &mut Walk,
        root: &mut Table,
        file: Option<PathBuf>,
        mode: Option<Mode>,
    ) -> Option<Self> {
        let said = walk.take(root, &MODE, |found| match found.text()? {
            "production" => Some(Mode::Production),
            "development" => Some(Mode::Development),
            _ => None,
        });
        let mode = mode.or(said);
        let listening = listening::take(walk, root, mode);
        let max_in_flight = walk.take(root, &MAX_IN_FLIGHT, |found| {
            found
                .integer()
                .filter(|count| (1..=1_000_000).contains(count))
        });
        let limits = limits::take(walk, root);
        let drain_delay = walk.take(root, &DRAIN_DELAY, |found| {
            span(found.text()?, Duration::ZERO, Duration::from_secs(60))
        });
        let path = walk.take(root, &DATABASE_PATH, |found| {
            found
                .text()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
        let pool_size = walk.take(root, &POOL_SIZE, |found| {
            found.integer().filter(|size| (1..=1024).contains(size))
        });
        let snapshot = walk.take(root, &SNAPSHOT, |found| match found.text()? {
            "held" => Some(Snapshot::Held),
            "per-query" => Some(Snapshot::PerQuery),
            _ => None,
        });
        let integrity_check_interval =
            walk.take(root, &INTEGRITY_CHECK_INTERVAL, watching::optional);
        let watching = watching::take(walk, root);
        let header = walk.take(root, &AUTH_HEADER, |found| {
            let name = HeaderName::try_from(found.text()?).ok()?;
            Some(name).filter(|name| !TAKEN_HEADERS.contains(&name.as_str()))
        });
        let keys = keys::take(walk, root, mode.unwrap_or(Mode::Production));
        let leeway = walk.take(root, &LEEWAY, |found| {
            Leeway::new(Span::parse(found.text()?).ok()?)
        });
        let policies = policies(walk, root, leeway.unwrap_or_default());
        let problems_base_url = walk.take(root, &BASE_URL, |found| {
            let url = found.text()?;
            let whole = url.ends_with(['/', '#', '=', ':'])
                && url.bytes().all(|byte| byte.is_ascii_graphic());
            whole.then(|| url.to_owned())
        });
        let service_name = walk.take(root, &SERVICE_NAME, |found| {
            let name = found.text()?;
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            ((1..=64).contains(&name.len()) && name.chars().all(plain)).then(|| name.to_owned())
        });
        let level = walk.take(root, &LOG_LEVEL, |found| match found.text()? {
            "error" => Some(Level::ERROR),
            "warn" => Some(Level::WARN),
            "info" => Some(Level::INFO),
            "debug" => Some(Level::DEBUG),
            "trace" => Some(Level::TRACE),
            _ => None,
        });
        let format = walk.take(root, &LOG_FORMAT, |found| match found.text()? {
            "auto" => Some(telemetry::Format::Auto),
            "text" => Some(telemetry::Format::Text),
            "json" => Some(telemetry::Format::Json),
            "journald" => Some(telemetry::Format::Journald),
            _ => None,
        });
        let (limits, frame) = limits?;
        Some(Self {
            mode: mode?,
            server: Server {
                listening: listening?,
                max_in_flight: max_in_flight?,
                limits,
                frame,
                drain_delay: drain_delay?,
            },
            database: Database {
                path: path?,
                reading: Options {
                    pool_size: pool_size?,
                    snapshot: snapshot?,
                },
                integrity_check_interval: integrity_check_interval?,
            },
            watching: watching?,
            auth: Auth {
                header: header?,
                keys,
            },
            policies,
            problems_base_url: problems_base_url?,
            service_name: service_name?,
            log: Log {
                level: level?,
                format: format?,
            },
            file,
            settings: Vec::new(),
        })
    }

    /// Reads the key files and makes the keys that requests are compared with.
    pub fn keyring(&self) -> Result<Keyring, Faults> {
        keys::load(self)
    }

    /// The names of all keys, in their order, whether or not they can be read.
    pub fn key_names(&self) -> Vec<&str> {
        keys::names(self)
    }

    /// What could be better about keys that are allowed.
    pub fn key_weaknesses(&self) -> Vec<Weakness> {
        keys::weaknesses(self)
    }
}

fn defaults() -> String {
    // One connection for each worker, and two for the lane of slow counts.
    let pool_size = (workers() + 2).min(1024);
    format!(
        r#"
        mode = "production"
        server.listen = "127.0.0.1:11004"
        server.allow_plain = false
        server.unix_mode = "0660"
        server.max_in_flight = 1024
        server.max_connections = 10000
        server.header_timeout = "10s"
        server.idle_timeout = "2m"
        server.write_timeout = "30s"
        server.drain_timeout = "10s"
        server.drain_delay = "0s"
        server.max_target_bytes = 6144
        server.max_header_fields = 64
        server.max_header_bytes = 16384
        database = {{ path = "sessile.db", pool_size = {pool_size}, snapshot = "held", integrity_check_interval = "1h", stale_after = "off" }}
        metrics = {{ sessions_interval = "1m", tenants = 0 }}
        auth = {{ header = "X-API-Key" }}
        sessions = {{ leeway = "0s" }}
        problems = {{ base_url = "/problems/" }}
        service = {{ name = "session-service" }}
        log = {{ level = "info", format = "auto" }}
        "#
    )
}

/// The file to read: the one that a flag or a variable names, which must be there, or the first that is found.
fn find_file(flags: &Flags) -> Result<Option<PathBuf>, Fault> {
    let variable = || {
        std::env::var_os(FILE_VARIABLE)
            .map(|path| (path.into(), Origin::Variable(FILE_VARIABLE.into())))
    };
    let Some((named, origin)) = flags
        .config
        .clone()
        .map(|path| (path, Origin::Flag))
        .or_else(variable)
    else {
        for place in FILE_PLACES.map(PathBuf::from) {
            match std::fs::metadata(&place) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                found => return readable(place, Origin::Default, found).map(Some),
            }
        }
        return Ok(None);
    };
    let found = std::fs::metadata(&named);
    readable(named, origin, found).map(Some)
}

/// The path, if what was found there can be a configuration file.
fn readable(path: PathBuf, origin: Origin, found: io::Result<Metadata>) -> Result<PathBuf, Fault> {
    let why = match found {
        Ok(found) if !found.is_dir() => return Ok(path),
        Ok(_) => "it is a directory".to_owned(),
        Err(error) => error.to_string(),
    };
    let complaint = format!("can't read the configuration file {path:?}: {why}");
    Err(Fault {
        origin,
        key: String::new(),
        complaint,
    })
}

fn merge_flags(figment: Figment, flags: &Flags) -> Figment {
    let listen = (!flags.listen.is_empty()).then(|| {
        Value::from(
            flags
                .listen
                .iter()
                .map(String::as_str)
                .map(Value::from)
                .collect::<Vec<_>>(),
        )
    });
    let text = |value: &Option<String>| value.as_deref().map(Value::from);
    [
        (listening::LISTEN.name, listen),
        (DATABASE_PATH.name, text(&flags.database)),
        (MODE.name, text(&flags.mode)),
        (LOG_LEVEL.name, text(&flags.log_level)),
        (LOG_FORMAT.name, text(&flags.log_format)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(Flag(name, value?)))
    .fold(figment, Figment::merge)
}

/// A span within these bounds, both allowed.
fn span(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    let millis = u64::try_from(Span::parse(text).ok()?.as_millis()).ok()?;
    let span = Duration::from_millis(millis);
    (least..=most).contains(&span).then_some(span)
}

fn policies(walk: &mut Walk, root: &mut Table, leeway: Leeway) -> Policies {
    let Some(mut table) = walk.take_table(root, &POLICY) else {
        return Policies {
            general: Policy {
                leeway,
                ..Policy::default()
            },
            tenants: HashMap::new(),
        };
    };
    let general = policy(walk, &mut table, leeway);
    let mut tenants = HashMap::new();
    for (name, mut table) in walk.take_named(&mut table, &TENANTS) {
        let nothing_said = table.is_empty();
        let policy = policy(walk, &mut table, leeway);
        if walk.is_set_by_variable(&table) {
            let complaint = "found in an environment variable, where a tenant's name would lose its capitals; \
                             allowed: in the configuration file";
            walk.fault(&table, "", complaint.to_owned());
        } else if nothing_said {
            walk.fault(
                &table,
                "",
                "found an empty table; to exempt a tenant say preset = \"none\"".to_owned(),
            );
        }
        match TenantId::new(name) {
            Ok(tenant) => {
                tenants.insert(tenant, policy);
            }
            Err(fault) => {
                let complaint = format!("not a tenant id: {fault}; allowed: {}", TenantId::ALLOWED);
                walk.fault(&table, "", complaint);
            }
        }
        walk.finish(table);
    }
    walk.finish(table);
    Policies { general, tenants }
}

/// The limits of one table: those of its preset, or none, each replaced by the one that stands beside it.
fn policy(walk: &mut Walk, table: &mut Table, leeway: Leeway) -> Policy {
    let preset = walk.take(table, &PRESET, |found| {
        let name = found.text()?;
        PRESETS.iter().find(|preset| preset.name == name)
    });
    let limit = |found: &raw::Found<'_>| {
        let span = Span::parse(found.text()?).ok()?;
        (Span::ZERO < span && span <= LIMIT_MAX).then_some(span)
    };
    let max_age = walk.take(table, &MAX_AGE, limit);
    let idle_timeout = walk.take(table, &IDLE_TIMEOUT, limit);
    Policy {
        max_age: max_age.or(preset.and_then(|preset| preset.max_age)),
        idle_timeout: idle_timeout.or(preset.and_then(|preset| preset.idle_timeout)),
        leeway,
    }
}
