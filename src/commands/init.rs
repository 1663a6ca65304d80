//! `sessile init`: a new, empty data file, or an old one brought up to this program's format.

use std::path::Path;

use serde::Serialize;

use super::{Done, load, say};
use crate::cli::Init;
use crate::store::migrations::upgrade;
use crate::store::schema::FORMAT;
use crate::store::writer::create;

#[derive(Serialize)]
struct Initialised<'p> {
    database: &'p Path,
    outcome: Outcome,
    format: i32,
    /// The format that an older file had, and where it stands as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    upgraded_from: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<&'p Path>,
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Made,
    Unchanged,
    Upgraded,
}

pub(super) fn run(args: &Init) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let mut found = Initialised {
        database: &path,
        outcome: Outcome::Unchanged,
        format: FORMAT,
        upgraded_from: None,
        backup: None,
        dry_run: args.dry_run,
    };
    let shown = path.display();
    if args.upgrade {
        let upgraded = upgrade(&path, args.dry_run)?;
        if let Some(upgraded) = &upgraded {
            found.outcome = Outcome::Upgraded;
            found.upgraded_from = Some(upgraded.from);
            found.backup = Some(&upgraded.backup);
        }
        say(&args.output, &found, |out| match &upgraded {
            None => writeln!(
                out,
                "{shown} has format {FORMAT} already; it was left as it is"
            ),
            Some(upgraded) => {
                let (verb, is) = match args.dry_run {
                    true => ("would upgrade", "would be"),
                    false => ("upgraded", "is"),
                };
                let (from, backup) = (upgraded.from, upgraded.backup.display());
                writeln!(
                    out,
                    "{verb} {shown} from format {from} to {FORMAT}; the file as it was {is} {backup}"
                )
            }
        })?;
    } else {
        let made = create(&path)?;
        if made {
            found.outcome = Outcome::Made;
        }
        say(&args.output, &found, |out| match made {
            true => writeln!(out, "made {shown}"),
            false => writeln!(
                out,
                "{shown} is a sessile file already; it was left as it is"
            ),
        })?;
    }
    Ok(Done::Yes)
}
