//! What shape an input has, from its first line.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

use super::fields::Field;
use super::record::TextSeed;
use super::{Format, Names, Notes, Settings, Sink, Stop, lines, table, upstream};

/// How much of an input is looked at to tell its shape, where its first line is not shorter.
const SNIFF: u64 = 64 * 1024;

/// Reads every session of `input` into `sink`, in the memory of one whatever its length.
pub fn read<E>(
    mut input: impl Read,
    settings: &Settings,
    sink: &mut Sink<'_, E>,
) -> Result<Notes, Stop<E>> {
    let head = head(&mut input, settings.is_following()).map_err(Stop::Io)?;
    // A byte order mark (U+FEFF) says nothing of UTF-8; some editors of Windows write it all the same.
    let start = if head.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let format = settings
        .format
        .unwrap_or_else(|| format(&head[start..], settings));
    let mut head = Cursor::new(head);
    head.set_position(start as u64);
    let input = head.chain(input);
    let mut notes = Notes::default();
    match format {
        Format::Upstream => upstream::read(input, settings, &mut notes, sink)?,
        Format::Ndjson => lines::read(buffered(input), settings, &mut notes, sink)?,
        Format::Csv => table::read(buffered(input), settings, &mut notes, sink)?,
    }
    Ok(notes)
}

pub(super) fn buffered<R: Read>(input: R) -> BufReader<R> {
    BufReader::with_capacity(SNIFF as usize, input)
}

/// The first line that is not blank and what came with it; some of what stands behind it, too, except where that may
/// not come for hours. So a pipe's shape does not depend on how much of it comes at a time.
fn head(input: &mut impl Read, is_following: bool) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let mut lines = head
            .trim_ascii_start()
            .splitn(2, |byte| *byte == b'\n')
            .skip(1);
        let has_line = lines
            .next()
            .is_some_and(|rest| is_following || !rest.trim_ascii().is_empty());
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

/// JSON begins with a bracket, or is nothing at all; the header of a CSV doesn't.
fn format(head: &[u8], settings: &Settings) -> Format {
    match head.trim_ascii_start().first() {
        None | Some(b'[') => Format::Ndjson,
        // An export ends, which what is followed doesn't.
        Some(b'{') if settings.is_following() => Format::Ndjson,
        Some(b'{') if is_export(head, &settings.names) => Format::Upstream,
        Some(b'{') => Format::Ndjson,
        // A new writer's first line may be a bad one among sessions; what is no header must not cost all the rest.
        Some(_) if settings.is_following() && !is_header(head, &settings.names) => Format::Ndjson,
        Some(_) => Format::Csv,
    }
}

/// Whether the first line has a column for ids.
fn is_header(head: &[u8], names: &Names) -> bool {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\n').next();
    let id = names.of(Field::Id).as_bytes();
    line.unwrap_or_default()
        .split(|byte| *byte == b',')
        .any(|cell| cell.trim_ascii() == id || cell.trim_ascii() == [b"\"", id, b"\""].concat())
}

/// Whether the input is an export rather than a session a line: its first line is an object with `sessions`, or
/// the beginning of an object that goes on in the next.
fn is_export(head: &[u8], names: &Names) -> bool {
    let head = head.trim_ascii_start();
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // What comes behind the first line tells a truncated session from an object over several lines.
    let goes_on = line.len() < head.trim_ascii_end().len() || head.len() as u64 >= SNIFF;
    match serde_json::from_slice::<Outline>(line) {
        Ok(outline) => outline.has_sessions,
        // A session whose line is only longer than what was looked at begins with a field of a session.
        Err(error) if error.classify() == Category::Eof && goes_on => {
            line.starts_with(b"{")
                && (line.len() < head.len() || !begins_like_a_session(line, names))
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
fn begins_like_a_session(line: &[u8], names: &Names) -> bool {
    let name = line.split(|byte| *byte == b'"').nth(1).unwrap_or_default();
    std::str::from_utf8(name).is_ok_and(|name| names.field(name).is_some())
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::Item;
    use super::*;
    use crate::time::Timestamp;

    /// An input that comes so many bytes at a time.
    struct Dripping<'d>(&'d [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let end = buffer.len().min(self.1);
            self.0.read(&mut buffer[..end])
        }
    }

    /// `{` alone on the first line, as a writer's first words into a pipe, is the beginning of an export.
    #[test]
    fn a_shape_does_not_depend_on_how_much_comes_at_a_time() {
        let export = br#"
{
  "sessions": [
    {"id": "1", "tenant_id": "t", "user_id": "u", "expires_in": "1h"}
  ],
  "total": 1
}
"#;
        for width in 1..export.len() {
            let mut sessions = 0;
            let settings = Settings::at(Timestamp::from_millis(0));
            let notes = read(Dripping(export, width), &settings, &mut |item| {
                let is_session = matches!(item, Item::Record { session: Ok(_), .. });
                assert!(is_session, "{item:?}, {width} bytes at a time");
                sessions += 1;
                Ok::<_, Infallible>(())
            });
            assert_eq!((sessions, notes.unwrap().total), (1, Some(1)));
        }
    }

    /// What is followed may have one line for hours, and it is a session to take at once.
    #[test]
    fn what_is_followed_is_told_by_its_first_line() {
        let line = b"{\"id\":\"1\"}\n";
        let mut input = line.chain(Never);
        assert_eq!(head(&mut input, true).unwrap(), line);
    }

    struct Never;

    impl Read for Never {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("it would wait for ever")
        }
    }
}
