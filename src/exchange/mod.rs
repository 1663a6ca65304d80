//! The shapes that sessions come in from elsewhere: upstream's export, `{"sessions":[…],"total":1}`, and one
//! session object a line (NDJSON). Which of the two an input is, is told from its content.
//!
//! A session comes out whole and checked, or as the list of everything that is wrong with it. Knows no SQL.

mod input;
mod record;

use std::fmt;

pub use input::{Notes, Stop, read};

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
