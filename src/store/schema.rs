//! What makes a SQLite file a sessile file: its application_id, its format number and the exact shape of its
//! objects.

use rusqlite::{Connection, OptionalExtension};

use super::FileFault;

/// `schema.sql`, the public contract of the file.
pub const SQL: &str = include_str!("../../schema.sql");

/// `SESL` in ASCII, in the header of the file.
pub const APPLICATION_ID: i32 = 0x5345_534C;

/// The format that this program reads and writes.
pub const FORMAT: i32 = 2;

/// The objects that answers come from.
const READ: [&str; 2] = ["session", "session_live"];

/// The objects that only commands use. Others in the file are their owners' business.
const WRITTEN: [&str; 2] = ["sessile_audit", "sessile_import"];

/// The numbers that change with the schema: SQLite's own count of its changes, the file format and whose file it
/// is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions([i32; 3]);

impl Versions {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |pragma| number(connection, pragma);
        Ok(Self([
            number("schema_version")?,
            number("user_version")?,
            number("application_id")?,
        ]))
    }
}

/// Checks that the file behind `connection` is one that a command may write to.
pub fn verify_for_writing(connection: &Connection) -> Result<(), FileFault> {
    verify(connection)?;
    verify_objects(connection, &WRITTEN)
}

/// Checks that the file behind `connection` is one that answers may be given from.
pub fn verify(connection: &Connection) -> Result<(), FileFault> {
    verify_current(connection)?;
    let journal_mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if journal_mode != "wal" {
        return Err(FileFault::NotWal {
            found: journal_mode,
        });
    }
    Ok(())
}

/// Checks that a file that is only to be copied has all that a file of ours has, whatever its journal mode.
pub(super) fn verify_for_copying(connection: &Connection) -> Result<(), FileFault> {
    verify_current(connection)?;
    verify_objects(connection, &WRITTEN)
}

fn verify_current(connection: &Connection) -> Result<(), FileFault> {
    match format(connection)? {
        FORMAT => verify_objects(connection, &READ),
        found => Err(FileFault::Older {
            found,
            known: FORMAT,
        }),
    }
}

/// The format of the file behind `connection`, if it is one of ours that this program knows.
pub(super) fn format(connection: &Connection) -> Result<i32, FileFault> {
    let application_id = number(connection, "application_id")?;
    if application_id != APPLICATION_ID {
        let objects: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        return Err(if application_id == 0 && objects == 0 {
            FileFault::Empty
        } else {
            FileFault::Foreign {
                found: application_id,
                expected: APPLICATION_ID,
            }
        });
    }
    match number(connection, "user_version")? {
        found if found > FORMAT => Err(FileFault::Newer {
            found,
            known: FORMAT,
        }),
        found if found < 1 => Err(FileFault::Misshapen {
            object: "user_version",
        }),
        found => Ok(found),
    }
}

fn verify_objects(connection: &Connection, objects: &[&'static str]) -> Result<(), FileFault> {
    for object in objects.iter().copied() {
        let found = connection
            .query_row(
                "SELECT sql FROM sqlite_schema WHERE name = ?1",
                [object],
                |row| row.get::<_, Option<String>>(0),
            )
            .optional()?
            .flatten();
        if found.map(|sql| canonical(&sql)).as_deref() != Some(&canonical(definition(object))) {
            return Err(FileFault::Misshapen { object });
        }
    }
    Ok(())
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// The CREATE statement of `object` in [`SQL`], without its semicolon, as SQLite stores it.
fn definition(object: &str) -> &'static str {
    [
        format!("CREATE TABLE {object} "),
        format!("CREATE INDEX {object} "),
    ]
    .iter()
    .find_map(|opening| SQL.find(opening.as_str()))
    .and_then(|start| SQL[start..].split(";\n").next())
    .unwrap_or_default()
}

/// The statement without its comments and with single spaces, so that the words about a column can be bettered
/// without making the files of yesterday misshapen.
///
/// This is exact for the comparison it serves: our own statements have no quote, bracket or slash outside a
/// comment, and none of those is ever taken out, so a statement that hides code behind a quoted `--` keeps its
/// quote and differs.
fn canonical(sql: &str) -> String {
    sql.lines()
        .flat_map(|line| {
            line.split("--")
                .next()
                .unwrap_or_default()
                .split_whitespace()
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_those_of_the_file() {
        let made = Connection::open_in_memory().unwrap();
        made.execute_batch(SQL).unwrap();
        assert_eq!(number(&made, "application_id").unwrap(), APPLICATION_ID);
        assert_eq!(number(&made, "user_version").unwrap(), FORMAT);
        for object in READ.into_iter().chain(WRITTEN) {
            let stored: String = made
                .query_row(
                    "SELECT sql FROM sqlite_schema WHERE name = ?1",
                    [object],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(stored, definition(object));
            assert!(
                !canonical(&stored).contains(['\'', '"', '`', '[', '/']),
                "canonical() relies on this"
            );
        }
    }

    #[test]
    fn comments_and_spaces_are_no_difference_but_code_is() {
        let ours = canonical("CREATE TABLE session (\n  id TEXT, -- the id\n  x INTEGER\n)");
        assert_eq!(
            ours,
            canonical("CREATE TABLE session (\n id  TEXT,\n x INTEGER -- another\n)")
        );
        assert_ne!(
            ours,
            canonical("CREATE TABLE session (\n id TEXT, \"--\" AS (1),\n x INTEGER\n)")
        );
    }
}
