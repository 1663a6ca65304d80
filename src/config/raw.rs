//! The merged sources as figment's value tree, and the walk that turns it into typed values.
//!
//! serde would stop at the first fault. Here each key is taken out of the tree by name and parsed on its own; a
//! fault is noted and the walk goes on; what is left in the tree at the end is unknown.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

/// The prefix of our environment variables; `__` in them stands for the dot of a key.
pub(super) const ENV_PREFIX: &str = "SESSILE_";

/// The name that marks the command line's values in figment.
const FLAG: &str = "command line";

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str(FLAG),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    pub key: String,
    /// What was found and what is allowed.
    pub complaint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.complaint)
    }
}

/// One effective setting, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    /// `None` where nothing is set.
    pub value: Option<Shown>,
    pub origin: Origin,
}

/// A value without its secret, in the two ways it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub toml: String,
    pub json: serde_json::Value,
}

/// A key: its name, which may have dots, and the values it takes, in words.
pub(super) struct Key {
    pub name: &'static str,
    pub allowed: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

impl Key {
    pub(super) const fn new(name: &'static str, allowed: &'static str) -> Self {
        Self {
            name,
            allowed,
            secret: false,
        }
    }

    pub(super) const fn secret(name: &'static str, allowed: &'static str) -> Self {
        Self {
            name,
            allowed,
            secret: true,
        }
    }
}

/// A part of the tree from which keys are taken.
pub(super) struct Table {
    pub(super) path: String,
    pub(super) origin: Origin,
    dict: Dict,
}

/// A value as it was found.
pub(super) struct Found<'a> {
    value: &'a Value,
    /// The text of the environment variable, which figment has already read as a number or a list where it
    /// looks like one. A text such as `0012` would not survive that.
    variable: Option<String>,
}

impl Found<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        self.variable.as_deref().or_else(|| self.value.as_str())
    }

    pub(super) fn integer<N: TryFrom<i128>>(&self) -> Option<N> {
        N::try_from(whole(self.value.to_num()?)?).ok()
    }

    pub(super) fn truth(&self) -> Option<bool> {
        self.value.to_bool()
    }

    /// A list of texts.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        self.value.as_array()?.iter().map(Value::as_str).collect()
    }

    /// A text, or a TOML date and time, which figment hands on as a table of one.
    pub(super) fn instant(&self) -> Option<&str> {
        let inside = self
            .value
            .as_dict()
            .and_then(|dict| dict.get("$__toml_private_datetime"));
        inside.map_or_else(|| self.text(), Value::as_str)
    }
}

/// The walk through the tree, with what it has noted so far.
pub(super) struct Walk {
    figment: Figment,
    pub(super) faults: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
    /// The names of all keys that were asked for, without the index or tenant of a repeated table.
    known: Vec<String>,
    unknown: Vec<(Origin, String)>,
}

impl Walk {
    /// The walk and the root of its tree. Of the sources only the file can be unreadable, which is one fault.
    pub(super) fn new(figment: Figment, file: Option<&Path>) -> Result<(Self, Table), Fault> {
        let merged = figment.data().map_err(|error| Fault {
            origin: file.map_or(Origin::Default, |file| Origin::File(file.to_owned())),
            key: String::new(),
            complaint: without_excerpt(&error.kind.to_string()),
        })?;
        let dict = merged
            .into_iter()
            .find(|(profile, _)| *profile == Profile::Default);
        let root = Table {
            path: String::new(),
            origin: Origin::Default,
            dict: dict.map(|(_, dict)| dict).unwrap_or_default(),
        };
        let walk = Self {
            figment,
            faults: Vec::new(),
            settings: Vec::new(),
            known: Vec::new(),
            unknown: Vec::new(),
        };
        Ok((walk, root))
    }

    /// Takes `key` out of `table` and parses it; `None` where it is absent or, with a fault noted, not allowed.
    pub(super) fn take<T>(
        &mut self,
        table: &mut Table,
        key: &Key,
        parse: impl FnOnce(&Found<'_>) -> Option<T>,
    ) -> Option<T> {
        let path = table.child(key.name);
        let Some(value) = self.remove(table, key) else {
            self.settings.push(Setting {
                key: path,
                value: None,
                origin: Origin::Default,
            });
            return None;
        };
        let origin = self.origin(value.tag(), &path);
        let variable = match &origin {
            // An item of a list has no variable of its own: what figment read is all there is.
            Origin::Variable(name) if !path.contains('[') => std::env::var(name).ok(),
            _ => None,
        };
        let found = Found {
            value: &value,
            variable,
        };
        let parsed = parse(&found);
        if parsed.is_none() {
            let shown = if key.secret {
                found.outline()
            } else {
                found.describe()
            };
            let complaint = format!("found {shown}; allowed: {}", key.allowed);
            self.faults.push(Fault {
                origin: origin.clone(),
                key: path.clone(),
                complaint,
            });
        }
        let shown = if key.secret {
            Shown {
                toml: HIDDEN.to_owned(),
                json: HIDDEN.into(),
            }
        } else {
            Shown {
                toml: found.describe(),
                json: found.json(),
            }
        };
        self.settings.push(Setting {
            key: path,
            value: Some(shown),
            origin,
        });
        parsed
    }

    /// Whether `key` is still in `table`.
    pub(super) fn has(&self, table: &Table, key: &Key) -> bool {
        table.dict.contains_key(key.name)
    }

    /// Whether `table` still holds a table `name` in its table `parent`.
    pub(super) fn has_table(&self, table: &Table, parent: &str, name: &str) -> bool {
        let parent = table.dict.get(parent).and_then(Value::as_dict);
        parent.is_some_and(|parent| parent.contains_key(name))
    }

    /// Takes the table `key` out of `table`.
    pub(super) fn take_table(&mut self, table: &mut Table, key: &Key) -> Option<Table> {
        let value = self.remove(table, key)?;
        self.table(value, table.child(key.name), key)
    }

    /// Takes the tables of the list `key` out of `table`.
    pub(super) fn take_list(&mut self, table: &mut Table, key: &Key) -> Vec<Table> {
        let path = table.child(key.name);
        match self.remove(table, key) {
            None => Vec::new(),
            Some(Value::Array(_, items)) => {
                let items = items.into_iter().enumerate();
                items
                    .filter_map(|(index, item)| self.table(item, format!("{path}[{index}]"), key))
                    .collect()
            }
            Some(other) => {
                self.wrong_shape(&other, path, key);
                Vec::new()
            }
        }
    }

    /// Takes the named tables under `key` out of `table`.
    pub(super) fn take_named(&mut self, table: &mut Table, key: &Key) -> Vec<(String, Table)> {
        let Some(Table { path, dict, .. }) = self.take_table(table, key) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (name, item) in dict {
            let table = self.table(item, format!("{path}.{}", toml_key(&name)), key);
            tables.extend(table.map(|table| (name, table)));
        }
        tables
    }

    fn table(&mut self, value: Value, path: String, key: &Key) -> Option<Table> {
        let origin = self.origin(value.tag(), &path);
        match value {
            Value::Dict(_, dict) => Some(Table { path, origin, dict }),
            other => {
                self.wrong_shape(&other, path, key);
                None
            }
        }
    }

    /// Notes a fault of `table` as a whole, where `name` is empty, or of the key `name` in it.
    pub(super) fn fault(&mut self, table: &Table, name: &str, complaint: String) {
        self.faults.push(Fault {
            origin: self.origin_of(table, name),
            key: table.child(name),
            complaint,
        });
    }

    /// Where the key `name` of `table` was set, or the table was.
    pub(super) fn origin_of(&self, table: &Table, name: &str) -> Origin {
        let key = table.child(name);
        let set = |setting: &&Setting| setting.key == key && setting.value.is_some();
        match self.settings.iter().find(set) {
            Some(setting) => setting.origin.clone(),
            None => table.origin.clone(),
        }
    }

    /// Whether an environment variable set any of the keys of `table`.
    pub(super) fn is_set_by_variable(&self, table: &Table) -> bool {
        let inside = |setting: &&Setting| setting.key.starts_with(&format!("{}.", table.path));
        let by_variable = |setting: &Setting| matches!(setting.origin, Origin::Variable(_));
        self.settings.iter().filter(inside).any(by_variable)
    }

    /// Whether a fault of the key `name` of `table` was noted.
    pub(super) fn has_fault(&self, table: &Table, name: &str) -> bool {
        let key = table.child(name);
        self.faults.iter().any(|fault| fault.key == key)
    }

    /// Notes what is left in `table` as unknown.
    pub(super) fn finish(&mut self, table: Table) {
        let mut left: Vec<(String, Value)> = table
            .dict
            .into_iter()
            .map(|(name, value)| (join(&table.path, &name), value))
            .collect();
        while let Some((path, value)) = left.pop() {
            let inside = format!("{}.", general(&path));
            let is_table = self.known.iter().any(|known| known.starts_with(&inside));
            match value {
                // A known table that still holds something holds an unknown key.
                Value::Dict(_, dict) if is_table => {
                    left.extend(
                        dict.into_iter()
                            .map(|(name, value)| (join(&path, &name), value)),
                    );
                }
                other if is_table => {
                    let complaint = format!("found {}; allowed: a table", value_kind(&other));
                    self.faults.push(Fault {
                        origin: self.origin(other.tag(), &path),
                        key: path,
                        complaint,
                    });
                }
                other => self
                    .unknown
                    .push((self.origin(first_leaf(&other).tag(), &path), path)),
            }
        }
    }

    /// Turns the unknown keys into faults, each with the nearest of the known ones; then sorts all by place.
    pub(super) fn close(&mut self) {
        for (origin, path) in std::mem::take(&mut self.unknown) {
            let complaint = match self.nearest(&path) {
                Some(near) => format!("unknown key; did you mean {near}?"),
                None => format!("unknown key; allowed: {}", self.siblings(&path)),
            };
            self.faults.push(Fault {
                origin,
                key: path,
                complaint,
            });
        }
        self.faults.sort_by(|a, b| a.key.cmp(&b.key));
    }

    fn remove(&mut self, table: &mut Table, key: &Key) -> Option<Value> {
        let path = general(&table.child(key.name));
        if !self.known.contains(&path) {
            self.known.push(path);
        }
        let mut dict = &mut table.dict;
        let (parents, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            match dict.get_mut(parent)? {
                Value::Dict(_, inner) => dict = inner,
                _ => return None, // stays in the tree, where `finish` finds it
            }
        }
        dict.remove(name)
    }

    fn wrong_shape(&mut self, value: &Value, path: String, key: &Key) {
        let origin = self.origin(value.tag(), &path);
        let shown = if key.secret {
            value_kind(value).to_owned()
        } else {
            describe(value)
        };
        self.faults.push(Fault {
            origin,
            key: path,
            complaint: format!("found {shown}; allowed: {}", key.allowed),
        });
    }

    fn origin(&self, tag: Tag, path: &str) -> Origin {
        self.figment
            .get_metadata(tag)
            .map_or(Origin::Default, |source| origin(source, path))
    }

    /// The known key that `path` was most likely meant to be: the same name in another table, or a slip of the
    /// finger away.
    fn nearest(&self, path: &str) -> Option<&str> {
        let asked = general(path);
        let name = asked.rsplit('.').next().unwrap_or_default();
        let elsewhere = self
            .known
            .iter()
            .find(|known| known.rsplit('.').next() == Some(name));
        let near = || {
            let scored = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &asked), known));
            let limit = 1 + name.len() / 3;
            scored
                .filter(|(distance, _)| *distance <= limit)
                .min_by_key(|(distance, _)| *distance)
        };
        elsewhere
            .or_else(|| near().map(|(_, known)| known))
            .map(String::as_str)
    }

    /// The names that are known where `path` stands.
    fn siblings(&self, path: &str) -> String {
        let asked = general(path);
        let parent = asked.rsplit_once('.').map_or("", |(parent, _)| parent);
        let mut names: Vec<&str> = Vec::new();
        for known in &self.known {
            let inside = if parent.is_empty() {
                Some(known.as_str())
            } else {
                known
                    .strip_prefix(parent)
                    .and_then(|rest| rest.strip_prefix('.'))
            };
            let name = inside
                .and_then(|rest| rest.split('.').next())
                .map(|name| name.trim_end_matches("[]"));
            names.extend(name.filter(|name| !names.contains(name)));
        }
        names.join(", ")
    }
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    fn child(&self, name: &str) -> String {
        join(&self.path, name)
    }
}

impl Found<'_> {
    fn describe(&self) -> String {
        match &self.variable {
            Some(text) => format!("{text:?}"),
            None => describe(self.value),
        }
    }

    /// The value with its type; a variable's is a text unless it is written as a number or a truth is.
    fn json(&self) -> serde_json::Value {
        let typed = serde_json::to_value(self.value).unwrap_or_default();
        match (&self.variable, self.instant()) {
            (Some(text), _)
                if serde_json::from_str(text)
                    .is_ok_and(|read: serde_json::Value| read == typed) =>
            {
                typed
            }
            (_, Some(text)) => text.into(),
            (_, None) => typed,
        }
    }

    /// What can be said of a secret.
    fn outline(&self) -> String {
        match self.text() {
            Some(text) => format!("a string of {} characters", text.chars().count()),
            None => value_kind(self.value).to_owned(),
        }
    }
}

/// One value of the command line, as a figment source.
pub(super) struct Flag(pub(super) &'static str, pub(super) Value);

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAG)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(self.0, self.1.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn origin(source: &Metadata, path: &str) -> Origin {
    match &source.source {
        Some(Source::File(file)) => Origin::File(file.clone()),
        _ if source.name.contains(ENV_PREFIX) => {
            let name = path.split('[').next().unwrap_or_default();
            Origin::Variable(format!(
                "{ENV_PREFIX}{}",
                name.replace('.', "__").to_ascii_uppercase()
            ))
        }
        _ if source.name == FLAG => Origin::Flag,
        _ => Origin::Default,
    }
}

/// TOML's complaint without the lines of the file that it quotes: a secret may stand in them.
fn without_excerpt(complaint: &str) -> String {
    let is_excerpt = |line: &str| {
        line.trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start()
            .starts_with('|')
    };
    complaint
        .lines()
        .filter(|line| !line.is_empty() && !is_excerpt(line))
        .collect::<Vec<_>>()
        .join(": ")
}

/// `auth.keys[3].name` is the known key `auth.keys[].name`, and a tenant's policy stands for every tenant's.
fn general(path: &str) -> String {
    let mut parts = path.split('[');
    let mut general = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        general.push('[');
        general.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    match general
        .strip_prefix(TENANTS)
        .and_then(|rest| rest.rsplit_once('.'))
    {
        Some((_, name)) => format!("{TENANTS}<id>.{name}"),
        None => general,
    }
}

const TENANTS: &str = "sessions.policy.tenants.";

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// A name as TOML writes it before the `=`.
fn toml_key(name: &str) -> Cow<'_, str> {
    let is_bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name:?}"))
    }
}

fn first_leaf(value: &Value) -> &Value {
    match value {
        Value::Dict(_, dict) => dict.values().next().map_or(value, first_leaf),
        Value::Array(_, items) => items.first().map_or(value, first_leaf),
        leaf => leaf,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => match (whole(*number), number.to_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(float)) => format!("{float:?}"),
            (None, None) => value_kind(value).to_owned(),
        },
        Value::Array(_, items) => {
            format!(
                "[{}]",
                items.iter().map(describe).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Dict(_, dict) => {
            match dict.get("$__toml_private_datetime").and_then(Value::as_str) {
                Some(instant) => instant.to_owned(),
                None => value_kind(value).to_owned(),
            }
        }
        Value::Empty(..) => value_kind(value).to_owned(),
    }
}

/// The number where it is a whole one; figment keeps signed and unsigned apart.
fn whole(number: Num) -> Option<i128> {
    number
        .to_i128()
        .or_else(|| i128::try_from(number.to_u128()?).ok())
}

fn value_kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}
