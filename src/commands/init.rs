//! `sessile init`: a new, empty data file.

use std::io::Write;

use super::{Done, load, out};
use crate::cli::Common;
use crate::store::writer::create;

pub(super) fn run(common: &Common) -> anyhow::Result<Done> {
    let path = load(common)?.database.path;
    let made = create(&path)?;
    let path = path.display();
    if made {
        writeln!(out(), "made {path}")?;
    } else {
        writeln!(
            out(),
            "{path} is a sessile file already; it was left as it is"
        )?;
    }
    Ok(Done::Yes)
}
