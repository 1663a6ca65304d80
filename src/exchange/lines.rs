//! One session object a line (NDJSON).

use std::io::{BufRead, Read};

use serde::de::DeserializeSeed;

use super::record::RecordSeed;
use super::{Fault, Item, MAX_RECORD, Notes, Place, Settings, Sink, Stop};
use crate::session::Session;

pub(super) fn read<E>(
    mut input: impl BufRead,
    settings: &Settings,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let mut line = Vec::new();
    let mut unknown = 0;
    for number in 1.. {
        line.clear();
        let read = (&mut input)
            .take(MAX_RECORD as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(Stop::Io)?;
        if read == 0 || (!line.ends_with(b"\n") && settings.is_stopped()) {
            break;
        }
        let session = if read > MAX_RECORD {
            // What the record was can't be kept whole, nor be put right by hand from its beginning.
            input.skip_until(b'\n').map_err(Stop::Io)?;
            let complaint = format!(
                "found a line of more than {MAX_RECORD} bytes; allowed: one session object a line"
            );
            Err(vec![Fault::new(complaint)])
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            parse(line.trim_ascii_end(), settings, notes)
        };
        if settings.is_following() && notes.unknown.len() > unknown {
            unknown = notes.unknown.len();
            let names = notes.unknown.keys().cloned().collect();
            sink(Item::Unknown(names)).map_err(Stop::Sink)?;
        }
        notes.rows += 1;
        let item = Item::Record {
            place: Place::Line(number),
            raw: settings.raw(line.trim_ascii_end()),
            session,
        };
        sink(item).map_err(Stop::Sink)?;
    }
    Ok(())
}

fn parse(line: &[u8], settings: &Settings, notes: &mut Notes) -> Result<Session, Vec<Fault>> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let seed = RecordSeed {
        names: &settings.names,
        unknown: &mut notes.unknown,
    };
    seed.deserialize(&mut json)
        .and_then(|record| json.end().map(|()| record))
        .map_err(|error| vec![syntax(&error)])?
        .into_session(settings)
}

/// JSON's own complaint, without the number of a line that was parsed alone.
fn syntax(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Fault::new(format!(
        "column {}: {what}; allowed: one session object a line",
        error.column()
    ))
}
