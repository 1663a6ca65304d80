//! Upstream's export, `{"sessions":[…],"total":1}`, one element at a time.

use std::fmt;
use std::io::BufRead;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::fields::note_unknown;
use super::record::{RecordSeed, TextSeed};
use super::{Fault, Item, Notes, Place, Settings, Sink, Stop};
use crate::session::Session;

pub(super) fn read<E>(
    input: impl BufRead,
    settings: &Settings,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let mut json = serde_json::Deserializer::from_reader(input);
    let mut stopped = None;
    let export = Export {
        settings,
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

/// Reads the object, and hands each session on as it comes.
struct Export<'x, 's, E> {
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
        while let Some(element) = items.next_element::<Box<RawValue>>()? {
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
