//! From bytes to session objects, one at a time: an input of any length takes the memory of one.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::error::Category;

use super::record::{NAMES, RecordSeed, TextSeed, Unknown, note_unknown};
use super::{Fault, Place};
use crate::session::Session;
use crate::time::Timestamp;

/// The longest line, in bytes: far over any session, far under what memory holds.
const MAX_LINE: usize = 1 << 20;

/// How much of an input is looked at to tell its shape, where its first line is not shorter.
const SNIFF: u64 = 64 * 1024;

/// What was noticed of an input that is no fault of a session.
#[derive(Debug, Default)]
pub struct Notes {
    /// Each unknown field, and how often it was met.
    pub unknown: Unknown,
    /// `total` of an export.
    pub total: Option<u64>,
    /// The number of session objects.
    pub rows: u64,
}

/// What is done with each session, or with what is wrong with one; an error of it ends the reading.
type Sink<'s, E> = dyn FnMut(Place, Result<Session, Vec<Fault>>) -> Result<(), E> + 's;

/// Why reading ended early.
#[derive(Debug)]
pub enum Stop<E> {
    /// The input could not be read.
    Io(io::Error),
    /// The sink said so.
    Sink(E),
}

/// Reads every session of `input` into `sink`. Relative instants count from `now`.
pub fn read<E>(
    mut input: impl Read,
    now: Timestamp,
    sink: &mut Sink<'_, E>,
) -> Result<Notes, Stop<E>> {
    let head = head(&mut input).map_err(Stop::Io)?;
    // A byte order mark (U+FEFF) says nothing of UTF-8; some editors of Windows write it all the same.
    let start = if head.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let is_export = is_export(&head[start..]);
    let mut head = Cursor::new(head);
    head.set_position(start as u64);
    let input = BufReader::with_capacity(SNIFF as usize, head.chain(input));
    let mut notes = Notes::default();
    if is_export {
        read_export(input, now, &mut notes, sink)?;
    } else {
        read_lines(input, now, &mut notes, sink)?;
    }
    Ok(notes)
}

/// The first line that is not blank, and what came with it.
fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let has_line = head.trim_ascii_start().contains(&b'\n');
        if has_line || head.len() as u64 >= SNIFF {
            return Ok(head);
        }
        match input.read(&mut chunk) {
            Ok(0) => return Ok(head),
            Ok(count) => head.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the input is an export rather than a session a line: its first line is an object with `sessions`, or
/// the beginning of an object that goes on in the next.
fn is_export(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // What comes behind the first line tells a truncated session from an object over several lines.
    let goes_on = line.len() < head.trim_ascii_end().len() || head.len() as u64 >= SNIFF;
    match serde_json::from_slice::<Outline>(line) {
        Ok(outline) => outline.has_sessions,
        // A session whose line is only longer than what was looked at begins with a field of a session.
        Err(error) if error.classify() == Category::Eof && goes_on => {
            line.starts_with(b"{") && (line.len() < head.len() || !begins_like_a_session(line))
        }
        Err(_) => [&b"{\"sessions\""[..], b"{\"total\""]
            .iter()
            .any(|opening| {
                let mut bytes = line.iter().filter(|byte| !byte.is_ascii_whitespace());
                opening.iter().all(|byte| bytes.next() == Some(byte))
            }),
    }
}

/// Whether the first name in the object is that of a session's field.
fn begins_like_a_session(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b'"').nth(1).unwrap_or_default();
    NAMES.iter().any(|known| known.as_bytes() == name)
}

/// An object of which only one thing matters.
struct Outline {
    has_sessions: bool,
}

impl<'de> serde::Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OutlineVisitor;

        impl<'de> Visitor<'de> for OutlineVisitor {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let mut has_sessions = false;
                while let Some(name) = map.next_key_seed(TextSeed)? {
                    has_sessions |= name == "sessions";
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(Outline { has_sessions })
            }
        }

        deserializer.deserialize_map(OutlineVisitor)
    }
}

fn read_lines<E>(
    mut input: impl BufRead,
    now: Timestamp,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(Stop::Io)?;
        if read == 0 {
            break;
        }
        let session = if read > MAX_LINE {
            input.skip_until(b'\n').map_err(Stop::Io)?;
            let complaint = format!(
                "found a line of more than {MAX_LINE} bytes; allowed: one session object a line"
            );
            Err(vec![Fault::new(complaint)])
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            session(line.trim_ascii_end(), now, &mut notes.unknown)
        };
        notes.rows += 1;
        sink(Place::Line(number), session).map_err(Stop::Sink)?;
    }
    Ok(())
}

fn session(line: &[u8], now: Timestamp, unknown: &mut Unknown) -> Result<Session, Vec<Fault>> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let record = RecordSeed(unknown)
        .deserialize(&mut json)
        .and_then(|record| json.end().map(|()| record));
    record
        .map_err(|error| vec![syntax(&error, Place::Line(error.line() as u64))])?
        .into_session(now)
}

/// JSON's own complaint. Of a line that was parsed alone, the line number in it would be a wrong one.
fn syntax(error: &serde_json::Error, place: Place) -> Fault {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Fault::new(match place {
        Place::Line(_) => format!(
            "column {}: {what}; allowed: one session object a line",
            error.column()
        ),
        _ => format!("line {}, column {}: {what}", error.line(), error.column()),
    })
}

fn read_export<E>(
    input: impl BufRead,
    now: Timestamp,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let mut stopped = None;
    let export = Export {
        now,
        notes,
        sink: &mut *sink,
        stopped: &mut stopped,
    };
    let outcome = export.deserialize(&mut json).and_then(|()| json.end());
    match (stopped, outcome) {
        (Some(error), _) => Err(Stop::Sink(error)),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(Stop::Io(error.into())),
        (None, Err(error)) => {
            sink(Place::Input, Err(vec![syntax(&error, Place::Input)])).map_err(Stop::Sink)
        }
    }
}

/// Reads `{"sessions":[…],"total":1}`, and hands each session on as it comes.
struct Export<'x, 's, E> {
    now: Timestamp,
    notes: &'x mut Notes,
    sink: &'x mut Sink<'s, E>,
    /// The sink's error, which serde could carry as text only.
    stopped: &'x mut Option<E>,
}

impl<'de, E> DeserializeSeed<'de> for Export<'_, '_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, E> Visitor<'de> for Export<'_, '_, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list called sessions")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut met = false;
        while let Some(name) = map.next_key_seed(TextSeed)? {
            match &*name {
                "sessions" if met => return Err(A::Error::duplicate_field("sessions")),
                "sessions" => {
                    met = true;
                    map.next_value_seed(Sessions(&mut self))?;
                }
                "total" => self.notes.total = map.next_value()?,
                other => {
                    note_unknown(&mut self.notes.unknown, other);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if met {
            Ok(())
        } else {
            Err(A::Error::missing_field("sessions"))
        }
    }
}

/// The list of an export; null where a program of Go wrote an empty one.
struct Sessions<'y, 'x, 's, E>(&'y mut Export<'x, 's, E>);

impl<'de, E> DeserializeSeed<'de> for Sessions<'_, '_, '_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E> Visitor<'de> for Sessions<'_, '_, '_, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of sessions")
    }

    fn visit_unit<F>(self) -> Result<(), F> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let export = self.0;
        while let Some(record) = items.next_element_seed(RecordSeed(&mut export.notes.unknown))? {
            let place = Place::Index(export.notes.rows);
            export.notes.rows += 1;
            if let Err(error) = (export.sink)(place, record.into_session(export.now)) {
                *export.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
