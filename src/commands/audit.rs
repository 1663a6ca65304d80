//! `sessile audit`: who changed what, by commands.

use serde::Serialize;

use super::words::{plain, table};
use super::{Done, load, say};
use crate::cli::Audit;
use crate::store::View;
use crate::store::audit::Entered;

pub(super) fn run(args: &Audit) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let entries = View::open(&path)?.audit(args.tenant.as_ref(), args.since, args.limit)?;
    let found = Found {
        entries: entries.iter().map(FoundEntry::from).collect(),
    };
    say(&args.output, &found, |out| {
        if entries.is_empty() {
            return writeln!(out, "no entry");
        }
        let heading = ["AT", "BY", "COMMAND", "SESSIONS", "TENANT", "OF"];
        table(out, heading, &entries.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(Done::Yes)
}

#[derive(Serialize)]
struct Found<'a> {
    entries: Vec<FoundEntry<'a>>,
}

#[derive(Serialize)]
struct FoundEntry<'a> {
    at: String,
    os_user: &'a str,
    command: &'a str,
    scope: &'a str,
    tenant_id: Option<&'a str>,
    sessions: u64,
}

impl<'a> From<&'a Entered> for FoundEntry<'a> {
    fn from(entry: &'a Entered) -> Self {
        Self {
            at: entry.at.to_string(),
            os_user: &entry.os_user,
            command: &entry.command,
            scope: &entry.scope,
            tenant_id: entry.tenant.as_deref(),
            sessions: entry.sessions,
        }
    }
}

fn row(entry: &Entered) -> [String; 6] {
    [
        entry.at.to_string(),
        plain(&entry.os_user),
        plain(&entry.command),
        entry.sessions.to_string(),
        entry
            .tenant
            .as_deref()
            .map_or_else(|| "-".to_owned(), plain),
        plain(&entry.scope),
    ]
}
