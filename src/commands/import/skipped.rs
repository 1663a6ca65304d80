//! The file for records at fault, as they were in the input: to be put right and imported in their turn.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// What is done with a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is somebody's, and stays.
    Refuse,
    /// It is of the same import, which writes it anew from the beginning.
    Overwrite,
    /// More is written behind it.
    Append,
}

pub(super) struct Skipped {
    path: PathBuf,
    file: BufWriter<File>,
    /// The header of a CSV, until it is written.
    heading: Option<Vec<u8>>,
    is_empty: bool,
}

impl Skipped {
    pub(super) fn open(path: &Path, existing: Existing) -> anyhow::Result<Self> {
        let before = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file);
        let has_content = before.is_some_and(|file| file.len() > 0);
        if has_content && existing == Existing::Refuse {
            bail!(
                "found {} with content, which may be the bad records of another import; move it away, or name another file",
                path.display()
            );
        }
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(existing == Existing::Append)
            .truncate(existing != Existing::Append)
            .open(path)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            heading: None,
            is_empty: !(has_content && existing == Existing::Append),
        })
    }

    pub(super) fn set_heading(&mut self, raw: Vec<u8>) {
        self.heading = Some(raw);
    }

    pub(super) fn write(&mut self, record: &[u8]) -> anyhow::Result<()> {
        let heading = self.heading.take().filter(|_| self.is_empty);
        self.is_empty = false;
        let lines = heading.as_deref().into_iter().chain([record]);
        self.write_lines(lines)
            .with_context(|| format!("can't write {}", self.path.display()))
    }

    fn write_lines<'l>(&mut self, lines: impl Iterator<Item = &'l [u8]>) -> io::Result<()> {
        for line in lines {
            self.file.write_all(line)?;
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Hands everything to the system: a record that was skipped is in the file before the rest is committed.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.file
            .flush()
            .with_context(|| format!("can't write {}", self.path.display()))
    }
}
