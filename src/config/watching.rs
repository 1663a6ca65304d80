//! What is told to those who watch the server, and when it calls itself unfit.

use std::time::Duration;

use super::raw::{Found, Key, Table, Walk};
use super::span;

const STALE_AFTER: Key = Key::new("database.stale_after", SPAN);
const SESSIONS_INTERVAL: Key = Key::new("metrics.sessions_interval", SPAN);
/// What [`optional`] takes.
pub(super) const SPAN: &str = "\"off\", or a span from \"1s\" to \"366d\"";
const TENANTS: Key = Key::new("metrics.tenants", "a whole number from 0 to 1000");

#[derive(Debug)]
pub struct Watching {
    /// How old the data may grow before the file is stale; `None` for no matter how old.
    pub stale_after: Option<Duration>,
    /// How often the active sessions are counted; `None` for never.
    pub sessions_interval: Option<Duration>,
    /// How many tenants are told apart in that count.
    pub tenants: usize,
}

/// Takes all of it out of the tree; `None` where something was not allowed.
pub(super) fn take(walk: &mut Walk, root: &mut Table) -> Option<Watching> {
    let stale_after = walk.take(root, &STALE_AFTER, optional);
    let sessions_interval = walk.take(root, &SESSIONS_INTERVAL, optional);
    let tenants = walk.take(root, &TENANTS, |found| {
        found.integer().filter(|count| (0..=1_000).contains(count))
    });
    Some(Watching {
        stale_after: stale_after?,
        sessions_interval: sessions_interval?,
        tenants: tenants?,
    })
}

/// A span, or `None` for never.
pub(super) fn optional(found: &Found<'_>) -> Option<Option<Duration>> {
    const YEAR: Duration = Duration::from_hours(366 * 24);
    match found.text()? {
        "off" => Some(None),
        text => span(text, Duration::from_secs(1), YEAR).map(Some),
    }
}
