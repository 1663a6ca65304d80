//! `sessile delete`: the erasure of a user.

use anyhow::{Context, bail};
use serde::Serialize;

use super::words::plain;
use super::{Done, load, say, sessions, warn};
use crate::cli::Delete;
use crate::store::Writer;

pub(super) fn run(args: &Delete) -> anyhow::Result<Done> {
    let path = load(&args.common)?.database.path;
    let mut writer = Writer::open(&path)?;
    let deleted = writer.erase(&args.tenant, &args.user)?;
    // Whatever becomes of the traces, the sessions are gone, and that is said.
    let emptied = writer.vacuum().and_then(|()| writer.empty_wal());
    let found = Found {
        deleted,
        traces_removed: matches!(emptied, Ok(true)),
    };
    let (user, tenant) = (plain(args.user.as_str()), &args.tenant);
    say(&args.output, &found, |out| {
        let deleted = sessions(deleted);
        writeln!(out, "deleted {deleted} of user {user} in tenant {tenant}")
    })?;
    let again = "traces may be left in the file or its -wal; run the same command again";
    let is_emptied = emptied.context(again)?;
    let is_replicated = writer.is_replicated()?;
    if is_replicated {
        warn(
            "the file is replicated by Litestream: its copy of the WAL beside the file keeps what was deleted until it is \
             started anew, its replica until its `retention` has passed",
        );
    }
    if is_emptied {
        Ok(Done::Yes)
    } else if is_replicated {
        bail!("Litestream or another reader keeps the WAL, so {again} while Litestream is stopped")
    } else {
        bail!("a reader's open transaction keeps the WAL, so {again} once it has ended")
    }
}

#[derive(Serialize)]
struct Found {
    deleted: u64,
    traces_removed: bool,
}
