//! `sessile check`: the endpoint's answer on the command line, by the same code.

use super::{Done, load, say, sessions};
use crate::api::ActiveSessionStatus;
use crate::cli::Check;
use crate::store::{Options, Reader, Snapshot};
use crate::time::Timestamp;

pub(super) fn run(args: &Check) -> anyhow::Result<Done> {
    let config = load(&args.common)?;
    let reader = Reader::open(
        &config.database.path,
        Options {
            pool_size: 1,
            snapshot: Snapshot::PerQuery,
        },
    )?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let cutoffs = config.policies.of(&args.tenant).cutoffs(at);
    let session_count = reader.count_blocking(&args.tenant, &args.user, &cutoffs)?;
    let status = ActiveSessionStatus { session_count };
    say(&args.output, &status, |out| {
        let word = if status.is_active() {
            "active"
        } else {
            "inactive"
        };
        writeln!(out, "{word}: {}", sessions(session_count))
    })?;
    Ok(if status.is_active() {
        Done::Yes
    } else {
        Done::No
    })
}
