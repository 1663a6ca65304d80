//! Upstream's export, `{"sessions":[…],"total":1}`, one element at a time.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::fields::note_unknown;
use super::input::buffered;
use super::record::{RecordSeed, TextSeed};
use super::{Fault, Item, MAX_RECORD, Notes, Place, Settings, Sink, Stop};
use crate::session::Session;

/// How much is read before an element or a member has to be over: a record, and what a buffer takes ahead of one.
const MOST: usize = MAX_RECORD + (1 << 17);

/// The same of a member that is not known: of what is passed over, serde_json keeps the open brackets only.
const MOST_PASSED_OVER: usize = 16 * MAX_RECORD;

pub(super) fn read<E>(
    input: impl Read,
    settings: &Settings,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let left = Cell::new(MOST);
    let mut json = serde_json::Deserializer::from_reader(buffered(Bounded { input, left: &left }));
    let mut stopped = None;
    let export = Export {
        left: &left,
        settings,
        notes,
        sink: &mut *sink,
        stopped: &mut stopped,
    };
    let outcome = export.deserialize(&mut json).and_then(|()| json.end());
    match (stopped, outcome) {
        (Some(error), _) => Err(Stop::Sink(error)),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) if error.is_io() && left.get() == 0 => {
            let fault = Fault::new(format!(
                "found more than {MAX_RECORD} bytes without the end of a session; allowed: less (is a quote not closed?)"
            ));
            sink(Item::Broken(Place::Input, vec![fault])).map_err(Stop::Sink)
        }
        (None, Err(error)) if error.is_io() => Err(Stop::Io(error.into())),
        (None, Err(error)) => {
            let what = what(&error);
            let fault = Fault::new(format!(
                "line {}, column {}: {what}",
                error.line(),
                error.column()
            ));
            sink(Item::Broken(Place::Input, vec![fault])).map_err(Stop::Sink)
        }
    }
}

/// JSON's own complaint, without its place.
fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// An input of which so much is read and no more, until more is allowed: what is held of it at once has an end, whether
/// the input has one or not.
struct Bounded<'l, R> {
    input: R,
    left: &'l Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let end = buffer.len().min(left);
        let read = self.input.read(&mut buffer[..end])?;
        self.left.set(left - read);
        Ok(read)
    }
}

/// Reads the object, and hands each session on as it comes.
struct Export<'x, 's, E> {
    /// How much may be read.
    left: &'x Cell<usize>,
    settings: &'x Settings,
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
                    self.left.set(MOST_PASSED_OVER);
                    map.next_value::<IgnoredAny>()?;
                }
            }
            self.left.set(MOST);
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
        while let Some(element) = items.next_element::<Box<RawValue>>()? {
            export.left.set(MOST);
            let place = Place::Index(export.notes.rows);
            export.notes.rows += 1;
            let item = Item::Record {
                place,
                session: parse(element.get(), export.settings, export.notes),
                raw: export.settings.raw(&on_one_line(element.get())),
            };
            if let Err(error) = (export.sink)(item) {
                *export.stopped = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

fn parse(element: &str, settings: &Settings, notes: &mut Notes) -> Result<Session, Vec<Fault>> {
    let mut json = serde_json::Deserializer::from_str(element);
    let seed = RecordSeed {
        names: &settings.names,
        unknown: &mut notes.unknown,
    };
    seed.deserialize(&mut json)
        .map_err(|error| {
            vec![Fault::new(format!(
                "{}; allowed: session objects",
                what(&error)
            ))]
        })?
        .into_session(settings)
}

/// The element as a line of NDJSON. JSON has line ends between its tokens only, never in a string.
fn on_one_line(element: &str) -> Vec<u8> {
    element
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::time::Timestamp;

    /// An input of a beginning and then one byte again and again, so often that nobody should read it all.
    fn endless(beginning: &str, byte: u8) -> impl Read {
        const MANY: u64 = 1 << 28;
        io::Cursor::new(beginning.to_owned().into_bytes()).chain(io::repeat(byte).take(MANY))
    }

    #[test]
    fn what_has_no_end_is_not_read_to_its_end() {
        for (beginning, byte) in [
            (r#"{"sessions":[""#, b'x'),
            (r#"{"sessions":["#, b' '),
            (r#"{"sessions":["#, b'['),
            (r#"{"total":1,"#, b' '),
            (r#"{"total":1,""#, b'x'),
            (r#"{"total":1,"x":"#, b'['),
        ] {
            let mut input = endless(beginning, byte);
            let (mut told, mut bytes) = (Vec::new(), 0);
            let counted = Counted {
                input: &mut input,
                bytes: &mut bytes,
            };
            let settings = Settings::at(Timestamp::from_millis(0));
            let outcome = read::<()>(counted, &settings, &mut |item| {
                let Item::Broken(Place::Input, faults) = item else {
                    panic!("{item:?}")
                };
                told.extend(faults.iter().map(Fault::to_string));
                Ok(())
            });
            assert!(outcome.is_ok(), "{outcome:?} of {beginning}");
            assert!(
                told[0].starts_with("found more than 1048576 bytes"),
                "{told:?} of {beginning}"
            );
            assert!(
                bytes <= MOST_PASSED_OVER + MOST,
                "{bytes} bytes of {beginning}"
            );
        }
    }

    /// Much that is not known stands beside the sessions of an export, and between them much that is blank.
    #[test]
    fn what_is_passed_over_may_be_long() {
        let filler = "x".repeat(3 * MAX_RECORD);
        let blank = " ".repeat(MAX_RECORD / 2);
        let session = r#"{"id":"1","tenant_id":"t","user_id":"u","expires_in":"1h"}"#;
        let export = format!(
            r#"{{"more":"{filler}","sessions":[{session},{blank}{session}{blank},{session}],"total":3}}"#
        );
        let settings = Settings::at(Timestamp::from_millis(0));
        let mut sessions = 0;
        let outcome = read::<()>(export.as_bytes(), &settings, &mut |item| {
            assert!(
                matches!(item, Item::Record { session: Ok(_), .. }),
                "{item:?}"
            );
            sessions += 1;
            Ok(())
        });
        assert_eq!((sessions, outcome.unwrap().total), (3, Some(3)));
    }

    struct Counted<'c, R> {
        input: R,
        bytes: &'c mut usize,
    }

    impl<R: Read> Read for Counted<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.input.read(buffer)?;
            *self.bytes += read;
            Ok(read)
        }
    }
}
