//! CSV with a header (RFC 4180): the columns are called as upstream's fields are, in any order.
//!
//! An empty cell is an absent field. Where the file tells an empty text from none, a quoted empty cell (`""`) is
//! the text: what PostgreSQL's COPY writes, and what lets an export come back as it went out.

use std::io::{self, BufRead};
use std::ops::Range;
use std::str::from_utf8;

use csv_core::ReadRecordResult;

use super::fields::{Field, Names, note_unknown};
use super::record::Record;
use super::{Fault, Item, MAX_RECORD, Notes, Place, Settings, Sink, Stop, quote};
use crate::session::Session;

pub(super) fn read<E>(
    input: impl BufRead,
    settings: &Settings,
    notes: &mut Notes,
    sink: &mut Sink<'_, E>,
) -> Result<(), Stop<E>> {
    let mut rows = Rows::new(input);
    let columns = match rows.next().map_err(Stop::Io)? {
        Found::End => return Ok(()),
        Found::Row => Columns::of(&rows, settings),
        Found::TooLong => Err(vec![too_long()]),
    };
    let columns = match columns {
        Ok(columns) => columns,
        Err(faults) => return rows.give_up(faults, settings, sink),
    };
    for name in &columns.unknown {
        note_unknown(&mut notes.unknown, name);
    }
    if settings.is_following() && !columns.unknown.is_empty() {
        sink(Item::Unknown(columns.unknown.clone())).map_err(Stop::Sink)?;
    }
    if settings.keep_raw {
        sink(Item::Heading(rows.raw().to_vec())).map_err(Stop::Sink)?;
    }
    loop {
        match rows.next().map_err(Stop::Io)? {
            Found::End => return Ok(()),
            Found::TooLong => return rows.give_up(vec![too_long()], settings, sink),
            // Cut short, the last cell of a row would still look like one.
            Found::Row if settings.is_stopped() && !rows.is_finished() => return Ok(()),
            Found::Row => {}
        }
        notes.rows += 1;
        let session = if settings.is_following() && !rows.is_finished() {
            Err(vec![Fault::new(
                "found a row without its line end; allowed: whole lines",
            )])
        } else {
            columns.session(&rows, settings)
        };
        let item = Item::Record {
            place: rows.place(),
            raw: settings.raw(rows.raw()),
            session,
        };
        sink(item).map_err(Stop::Sink)?;
    }
}

fn too_long() -> Fault {
    Fault::new(format!(
        "found a row of more than {MAX_RECORD} bytes; allowed: less (is a quote not closed?)"
    ))
}

/// Which field each column of the header is.
struct Columns {
    fields: Vec<Option<Field>>,
    unknown: Vec<String>,
}

impl Columns {
    fn of(rows: &Rows<impl BufRead>, settings: &Settings) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut columns = Self {
            fields: Vec::new(),
            unknown: Vec::new(),
        };
        for cell in rows.cells() {
            let name = String::from_utf8_lossy(cell);
            let name = name.trim();
            let field = settings.names.field(name);
            match field {
                Some(field) if columns.fields.contains(&Some(field)) => {
                    faults.push(Fault::of_field(
                        field.name(),
                        "two columns of it",
                        "one column a field",
                    ));
                }
                Some(_) => {}
                None => columns.unknown.push(name.to_owned()),
            }
            columns.fields.push(field);
        }
        for needed in columns.missing(settings) {
            faults.push(Fault::of_field(
                needed.name(),
                "no column of it",
                column_of(needed, &settings.names),
            ));
        }
        if faults.is_empty() {
            Ok(columns)
        } else {
            Err(faults)
        }
    }

    /// The fields without which no row can be a session.
    fn missing(&self, settings: &Settings) -> Vec<Field> {
        let has = |field| self.fields.contains(&Some(field));
        let mut missing = vec![Field::Id, Field::UserId];
        if settings.tenant.is_none() {
            missing.push(Field::TenantId);
        }
        if !has(Field::ExpiresIn) {
            missing.push(Field::ExpiresAt);
        }
        missing.retain(|field| !has(*field));
        missing
    }

    fn session(
        &self,
        rows: &Rows<impl BufRead>,
        settings: &Settings,
    ) -> Result<Session, Vec<Fault>> {
        if rows.cell_count() != self.fields.len() {
            return Err(vec![Fault::new(format!(
                "found {} cells; allowed: {}, as in the header",
                rows.cell_count(),
                self.fields.len()
            ))]);
        }
        // Looking for the quotes of empty cells is left out where the row can have none.
        let quoted = if rows.raw().windows(2).any(|pair| pair == b"\"\"") {
            quoted_empty_cells(rows.raw())
        } else {
            Vec::new()
        };
        let mut record = Record::default();
        for (index, (cell, field)) in rows.cells().zip(&self.fields).enumerate() {
            let Some(field) = *field else { continue };
            if cell.is_empty() && !(field.is_free_text() && quoted.contains(&index)) {
                continue;
            }
            match from_utf8(cell) {
                Ok(cell) => record.set_cell(field, cell),
                Err(_) => record.add_fault(Fault::of_field(
                    field.name(),
                    format_args!(
                        "{}, which is not UTF-8",
                        quote(&String::from_utf8_lossy(cell))
                    ),
                    "text in UTF-8",
                )),
            }
        }
        record.into_session(settings)
    }
}

/// What to say of a column that is not there.
fn column_of(field: Field, names: &Names) -> String {
    let otherwise = match field {
        Field::TenantId => ", or --tenant for all rows",
        Field::ExpiresAt => ", or one called expires_in",
        _ => "",
    };
    format!(
        "a header with a column called {:?}{otherwise} (--map {}=NAME tells another name)",
        names.of(field),
        field.name()
    )
}

/// The cells that are `""`: the reader of CSV has taken their quotes away.
fn quoted_empty_cells(raw: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = raw;
    for index in 0.. {
        let is_quoted = rest.first() == Some(&b'"');
        let mut within = false;
        let end = rest.iter().position(|byte| {
            // A quote that does not open the cell is a character like any other.
            within ^= is_quoted && *byte == b'"';
            !within && *byte == b','
        });
        let cell = &rest[..end.unwrap_or(rest.len())];
        if cell == b"\"\"" {
            found.push(index);
        }
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => break,
        }
    }
    found
}

/// What stands next in the input.
enum Found {
    Row,
    /// A row over [`MAX_RECORD`]: where the next begins can't be told.
    TooLong,
    End,
}

/// The rows of an input, one at a time, as cells and as they were written.
struct Rows<R> {
    input: R,
    parser: csv_core::Reader,
    /// The bytes of the row with its line end, and those of blank lines before it.
    bytes: Vec<u8>,
    /// The cells one behind the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    cell_count: usize,
    /// The line that the row begins in, the first being 1.
    line: u64,
}

impl<R: BufRead> Rows<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            parser: csv_core::Reader::new(),
            bytes: Vec::new(),
            text: vec![0; 4096],
            ends: vec![0; 32],
            cell_count: 0,
            line: 1,
        }
    }

    fn next(&mut self) -> io::Result<Found> {
        self.line += line_ends(&self.bytes);
        self.bytes.clear();
        self.cell_count = 0;
        let mut length = 0;
        loop {
            let input = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                input => input?,
            };
            let (result, read, written, ended) = self.parser.read_record(
                input,
                &mut self.text[length..],
                &mut self.ends[self.cell_count..],
            );
            self.bytes.extend_from_slice(&input[..read]);
            self.input.consume(read);
            length += written;
            self.cell_count += ended;
            if self.bytes.len() > MAX_RECORD {
                return Ok(Found::TooLong);
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => return Ok(Found::Row),
                ReadRecordResult::End => return Ok(Found::End),
            }
        }
    }

    fn cell_count(&self) -> usize {
        self.cell_count
    }

    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let ends = &self.ends[..self.cell_count];
        let starts = std::iter::once(&0).chain(ends);
        starts
            .zip(ends)
            .map(|(start, end)| &self.text[*start..*end])
    }

    /// Where in `bytes` the row itself stands: blank lines before it, and the second half of a line end that the
    /// row before had, came with it.
    fn span(&self) -> Range<usize> {
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = self.bytes.iter().take_while(|byte| is_end(byte)).count();
        let trailing = self.bytes.iter().rev().take_while(|byte| is_end(byte));
        start..(self.bytes.len() - trailing.count()).max(start)
    }

    fn raw(&self) -> &[u8] {
        &self.bytes[self.span()]
    }

    /// Whether the row ended with its line and not with the input.
    fn is_finished(&self) -> bool {
        self.bytes.ends_with(b"\n") || self.bytes.ends_with(b"\r")
    }

    fn place(&self) -> Place {
        Place::Line(self.line + line_ends(&self.bytes[..self.span().start]))
    }

    /// Tells why the rest can't be read. One that is followed is read all the same, to where another may begin.
    fn give_up<E>(
        mut self,
        faults: Vec<Fault>,
        settings: &Settings,
        sink: &mut Sink<'_, E>,
    ) -> Result<(), Stop<E>> {
        sink(Item::Broken(self.place(), faults)).map_err(Stop::Sink)?;
        if settings.is_following() {
            io::copy(&mut self.input, &mut io::sink()).map_err(Stop::Io)?;
        }
        Ok(())
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_empty_cells_are_found() {
        for (row, wanted) in [
            (&b"\"\""[..], &[0][..]),
            (b"a,\"\",b", &[1]),
            (b"a,,\"\"", &[2]),
            (b"\"a\"\"\",\"\"", &[1]),
            (b"\"\"\"\",\",\"\",\",x\"\"", &[]),
            (b"x\"\",\"\"", &[1]),
        ] {
            assert_eq!(quoted_empty_cells(row), wanted, "{row:?}");
        }
    }
}
