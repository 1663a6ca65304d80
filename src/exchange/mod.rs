//! The shapes that sessions come in from elsewhere and go out in: upstream's export, `{"sessions":[…],"total":1}`,
//! one session object a line (NDJSON), and CSV with a header. Which of them an input is, is told from its content.
//!
//! A session comes out whole and checked, or as the list of everything that is wrong with it. Knows no SQL.

mod fields;
mod follow;
mod input;
mod lines;
mod output;
mod record;
mod table;
mod upstream;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use fields::{Names, Rename, Unknown};
pub use follow::Followed;
pub use input::read;
pub use output::Output;

use crate::session::{Session, TenantId};
use crate::time::Timestamp;

/// The longest record, in bytes: far over any session, far under what memory holds.
const MAX_RECORD: usize = 1 << 20;

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Upstream,
    Ndjson,
    Csv,
}

/// How an input is read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instant that relative times count from.
    pub now: Timestamp,
    /// `None`: as the content says.
    pub format: Option<Format>,
    pub names: Names,
    /// The tenant of every session; one that names another is at fault.
    pub tenant: Option<TenantId<'static>>,
    /// Whether records are handed on as they were written, too.
    pub keep_raw: bool,
    /// Set where an input is followed that never ends: whether to stop nevertheless.
    pub following: Option<Arc<AtomicBool>>,
}

impl Settings {
    /// As the content says, with nothing else asked for.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            format: None,
            names: Names::default(),
            tenant: None,
            keep_raw: false,
            following: None,
        }
    }

    fn is_following(&self) -> bool {
        self.following.is_some()
    }

    /// Whether reading was stopped, so that what the input ends with may be half of something.
    fn is_stopped(&self) -> bool {
        let stop = self.following.as_ref();
        stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    fn raw(&self, record: &[u8]) -> Vec<u8> {
        if self.keep_raw {
            record.to_vec()
        } else {
            Vec::new()
        }
    }
}

/// What an input is made of.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "all but one or two of an input are records"
)]
pub enum Item {
    /// The header of a CSV, as it was written; where records are kept so.
    Heading(Vec<u8>),
    /// A session, or everything that is wrong with it.
    Record {
        place: Place,
        /// Without its line end. Empty where it was not asked for.
        raw: Vec<u8>,
        session: Result<Session, Vec<Fault>>,
    },
    /// What keeps the rest from being read.
    Broken(Place, Vec<Fault>),
    /// Fields that are not known; of an input that is followed, whose [`Notes`] may never come.
    Unknown(Vec<String>),
}

/// What is done with each item; an error of it ends the reading.
type Sink<'s, E> = dyn FnMut(Item) -> Result<(), E> + 's;

/// What was noticed of an input that is no fault of a session.
#[derive(Debug, Default)]
pub struct Notes {
    /// Each unknown field, and how often it was met.
    pub unknown: Unknown,
    /// `total` of an export.
    pub total: Option<u64>,
    /// The number of records.
    pub rows: u64,
}

/// Why reading ended early.
#[derive(Debug)]
pub enum Stop<E> {
    /// The input could not be read.
    Io(io::Error),
    /// The sink said so.
    Sink(E),
}

/// Where in an input something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The input as a whole.
    Input,
    /// A line, the first being 1.
    Line(u64),
    /// An element of `sessions`, the first being 0.
    Index(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Line(number) => write!(f, "line {number}"),
            Self::Index(index) => write!(f, "sessions[{index}]"),
        }
    }
}

/// What is wrong with an input, in one place of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, where it is about one.
    pub field: Option<&'static str>,
    /// What was found and what is allowed.
    pub complaint: String,
}

impl Fault {
    fn new(complaint: impl Into<String>) -> Self {
        Self {
            field: None,
            complaint: complaint.into(),
        }
    }

    /// A fault of one field.
    pub fn of_field(
        field: &'static str,
        found: impl fmt::Display,
        allowed: impl fmt::Display,
    ) -> Self {
        Self {
            field: Some(field),
            complaint: format!("found {found}; allowed: {allowed}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field}: {}", self.complaint),
            None => f.write_str(&self.complaint),
        }
    }
}

/// A text for an error sentence: quoted, and cut where it is long.
pub fn quote(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}… ({} characters)", &text[..end], text.chars().count()),
        None => format!("{text:?}"),
    }
}
