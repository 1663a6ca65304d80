//! What callers may take of the server: places, time and bytes.

use std::time::Duration;

use super::raw::{Found, Key, Table, Walk};
use super::span;
use crate::api::FrameLimits;
use crate::server;

const MAX_CONNECTIONS: Key = Key::new("server.max_connections", "a whole number from 1 to 1000000");
const HEADER_TIMEOUT: Key = Key::new("server.header_timeout", PATIENCE);
const IDLE_TIMEOUT: Key = Key::new("server.idle_timeout", PATIENCE);
const WRITE_TIMEOUT: Key = Key::new("server.write_timeout", PATIENCE);
const PATIENCE: &str = "a span from \"100ms\" to \"1h\"";
const DRAIN_TIMEOUT: Key = Key::new("server.drain_timeout", "a span from \"0s\" to \"1h\"");
const MAX_TARGET: Key = Key::new(
    "server.max_target_bytes",
    "a whole number from 256 to 16384",
);
const MAX_FIELDS: Key = Key::new("server.max_header_fields", "a whole number from 8 to 96");
const MAX_FIELD_BYTES: Key = Key::new(
    "server.max_header_bytes",
    "a whole number from 1024 to 65536",
);

/// How much more than our limits hyper takes of a head before it answers in its own way, which has no Problem.
const HEAD_BEYOND: usize = 8 * 1024;

/// And at least this much.
const HEAD_LEAST: usize = 32 * 1024;

/// Takes the limits out of the tree; `None` where one was not allowed.
pub(super) fn take(walk: &mut Walk, root: &mut Table) -> Option<(server::Limits, FrameLimits)> {
    let connections = walk.take(root, &MAX_CONNECTIONS, whole(1, 1_000_000));
    let header_timeout = walk.take(root, &HEADER_TIMEOUT, patience(100));
    let idle_timeout = walk.take(root, &IDLE_TIMEOUT, patience(100));
    let write_timeout = walk.take(root, &WRITE_TIMEOUT, patience(100));
    let drain_timeout = walk.take(root, &DRAIN_TIMEOUT, patience(0));
    let target_bytes = walk.take(root, &MAX_TARGET, whole(256, 16_384));
    let fields = walk.take(root, &MAX_FIELDS, whole(8, 96));
    let field_bytes = walk.take(root, &MAX_FIELD_BYTES, whole(1_024, 65_536));
    let frame = FrameLimits {
        target_bytes: target_bytes?,
        fields: fields?,
        field_bytes: field_bytes?,
    };
    let limits = server::Limits {
        connections: connections?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        write_timeout: write_timeout?,
        drain_timeout: drain_timeout?,
        head_bytes: HEAD_LEAST.max(frame.target_bytes + frame.field_bytes + HEAD_BEYOND),
    };
    Some((limits, frame))
}

fn whole(least: usize, most: usize) -> impl FnOnce(&Found<'_>) -> Option<usize> {
    move |found| {
        let number = found.integer();
        number.filter(|number| (least..=most).contains(number))
    }
}

/// A span of at most an hour, and at least so many milliseconds.
fn patience(least: u64) -> impl FnOnce(&Found<'_>) -> Option<Duration> {
    const HOUR: Duration = Duration::from_hours(1);
    move |found| span(found.text()?, Duration::from_millis(least), HOUR)
}
