//! `sessile export`: the sessions of the data file, in the shapes that `sessile import` takes.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::{Done, is_same_file, load, out, say, sessions};
use crate::cli;
use crate::exchange;
use crate::store::rows::{self, Of, Stop};

/// What is said at the end.
#[derive(Serialize)]
struct Summary<'a> {
    file: &'a Path,
    sessions: u64,
}

pub(super) fn run(args: &cli::Export) -> anyhow::Result<Done> {
    let database = load(&args.common)?.database.path;
    let Some(file) = &args.file else {
        write(args, &database, out(), "standard output")?;
        return Ok(Done::Yes);
    };
    let count = write_file(args, &database, file)?;
    let summary = Summary {
        file,
        sessions: count,
    };
    let output = cli::Output { json: args.json };
    say(&output, &summary, |out| {
        writeln!(out, "exported {} to {}", sessions(count), file.display())
    })?;
    Ok(Done::Yes)
}

/// Writes the sessions that are asked for; returns their number.
fn write(
    args: &cli::Export,
    database: &Path,
    to: impl Write,
    name: impl Display,
) -> anyhow::Result<u64> {
    let unwritable = || format!("can't write {name}");
    let of = match (&args.tenant, &args.user) {
        (Some(tenant), Some(user)) => Of::User(tenant, user),
        (Some(tenant), None) => Of::Tenant(tenant),
        (None, _) => Of::All,
    };
    let to = BufWriter::with_capacity(1 << 16, to);
    let mut output = exchange::Output::begin(to, args.format).with_context(unwritable)?;
    match rows::read(database, of, &mut |row| output.write(row)) {
        Ok(()) => output.end().with_context(unwritable),
        Err(Stop::Store(error)) => Err(error.into()),
        Err(Stop::Sink(error)) => Err(error).with_context(unwritable),
    }
}

/// Writes a file that is there whole or, where anything goes wrong, as it was before.
fn write_file(args: &cli::Export, database: &Path, file: &Path) -> anyhow::Result<u64> {
    let unwritable = || format!("can't write {}", file.display());
    if is_same_file(file, database) {
        bail!("found the data file itself as --output; allowed: another file");
    }
    if file.exists() && !file.is_file() {
        let to = OpenOptions::new()
            .write(true)
            .open(file)
            .with_context(unwritable)?;
        return write(args, database, to, file.display());
    }
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // For its owner alone: it tells who was where, and when.
    let mut new = NamedTempFile::new_in(folder).with_context(unwritable)?;
    let count = write(args, database, new.as_file_mut(), file.display())?;
    new.as_file().sync_all().with_context(unwritable)?;
    new.persist(file)
        .map_err(|error| error.error)
        .with_context(unwritable)?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(unwritable)?;
    Ok(count)
}
