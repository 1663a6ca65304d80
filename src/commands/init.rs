//! `sessile init`: a new, empty data file.

use std::io::{Write, stdout};

use super::{Done, load};
use crate::cli::Common;
use crate::store::writer::create;

pub(super) fn run(common: &Common) -> anyhow::Result<Done> {
    let path = load(common)?.database.path;
    let made = create(&path)?;
    let path = path.display();
    if made {
        writeln!(stdout(), "made {path}")?;
    } else {
        writeln!(
            stdout(),
            "{path} is a sessile file already; it was left as it is"
        )?;
    }
    Ok(Done::Yes)
}
