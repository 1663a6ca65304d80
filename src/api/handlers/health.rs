//! `/healthz` and `/readyz`: does the process live, and can it answer?

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::api::headers::{JSON, respond};
use crate::api::live::Live;
use crate::api::problem::to_json;
use crate::api::service::Local;
use crate::session::{TenantId, UserId};
use crate::store::integrity::{Report, Verdict};
use crate::store::space::Extent;
use crate::time::{Span, Timestamp};

/// How long a check may take before it has failed.
const BOUND: Duration = Duration::from_secs(1);

/// How long the heartbeat may wait for a connection of a file that gives answers.
const PATIENCE: Duration = Duration::from_millis(500);

/// 200 while the process lives; touches no file.
pub(in crate::api) fn healthz() -> Response<Full<Bytes>> {
    respond(StatusCode::OK, JSON, r#"{"status":"ok"}"#)
}

#[derive(Serialize)]
struct Readiness<'c> {
    status: &'static str,
    checks: &'c [Check],
}

#[derive(Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    /// In a few words, and without a path.
    detail: Cow<'static, str>,
}

impl Check {
    fn new<T: Into<Cow<'static, str>>>(name: &'static str, result: Result<T, T>) -> Self {
        let ok = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        Self {
            name,
            ok,
            detail: detail.into(),
        }
    }
}

/// 200 while a question would be answered, 503 while not, with each check by name.
pub(in crate::api) async fn readyz(api: &Local, live: &Live) -> Response<Full<Bytes>> {
    let (checks, _) = checks(api, live).await;
    let (status, word) = if checks.iter().all(|check| check.ok) {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    respond(
        status,
        JSON,
        to_json(&Readiness {
            status: word,
            checks: &checks,
        }),
    )
}

/// What is seen of the file without a count in it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) extent: Extent,
    pub(super) heartbeat: Option<Timestamp>,
}

/// What was seen, in a few words why nothing was.
pub(super) type Look = Result<Seen, &'static str>;

/// Looks at the file, for as long as a check may take. Of one that gives no answer the heartbeat is not waited for.
async fn look(api: &Local, is_answering: bool) -> Look {
    let reader = api.shared.reader.clone();
    let patience = if is_answering {
        PATIENCE
    } else {
        Duration::ZERO
    };
    let look = spawn_blocking(move || {
        Ok(Seen {
            extent: reader.extent().map_err(|_| "file can't be looked at")?,
            heartbeat: reader.heartbeat(patience)?,
        })
    });
    match timeout(BOUND, look).await {
        Ok(look) => look.unwrap_or(Err("file can't be looked at")),
        Err(_) => Err("no answer within 1 s"),
    }
}

/// Each check of what must hold for a question to be answered, and answered from data that is fresh enough; and what
/// was seen of the file for it.
pub(super) async fn checks(api: &Local, live: &Live) -> ([Check; 4], Look) {
    let accepting = if api.shared.is_leaving() {
        Err("stopping")
    } else {
        Ok("taking requests")
    };
    // Whatever the path leads to now is opened by the count, even if nobody asks the server anything: only then is
    // looked at it.
    let database = database(api, live).await;
    let look = look(api, database.is_ok()).await;
    let stale_after = api.shared.settings.stale_after;
    let checks = [
        Check::new("accepting", accepting),
        Check::new("database", database),
        Check::new("integrity", integrity(api.shared.reader.integrity())),
        Check::new("fresh", fresh(look, stale_after, Timestamp::now())),
    ];
    (checks, look)
}

/// A real count in the real table, of a user that may well exist.
async fn database(api: &Local, live: &Live) -> Result<&'static str, &'static str> {
    let (Ok(tenant), Ok(user)) = (TenantId::new("readyz"), UserId::new("readyz")) else {
        return Err("no question to ask");
    };
    let cutoffs = live.policies.of(&tenant).cutoffs(Timestamp::now());
    if api
        .lane
        .count_at_once(&tenant, &user, &cutoffs, Instant::now())
        .is_some()
    {
        return Ok("answers");
    }
    match timeout(BOUND, api.lane.count(&tenant, &user, &cutoffs)).await {
        Ok(Ok(_)) => Ok("answers"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the data file gives no answer");
            Err(error.fault.summary())
        }
        Err(_) => Err("no answer within 1 s"),
    }
}

/// What the checks in the background have found: of the file as it was at the last of them.
fn integrity(report: Report) -> Result<&'static str, &'static str> {
    match report.verdict {
        Verdict::Damaged => Err("file damaged"),
        Verdict::Sound => Ok("sound"),
        Verdict::Unchecked if !report.is_on => Ok("off"),
        Verdict::Unchecked if report.given_up > 0 => Ok("given up"),
        Verdict::Unchecked => Ok("not checked yet"),
    }
}

/// How old the data is: a feed that fell silent, or a replica that is not followed any more, lets answers go wrong without
/// an error. By the heartbeat, where the file has one, else by the last commit of anybody. What was written by a clock
/// ahead of ours is fresh.
fn fresh(look: Look, stale_after: Option<Duration>, now: Timestamp) -> Result<String, String> {
    let (said, age) = match look {
        Ok(seen) => {
            let (what, at) = match seen.heartbeat {
                Some(at) => ("heartbeat", at),
                None => ("written", seen.extent.written_at),
            };
            let age = now.saturating_since(at).max(Span::ZERO);
            (format!("{what} {} ago", age.rounded_down()), Some(age))
        }
        Err(why) => (why.to_owned(), None),
    };
    let Some(stale_after) = stale_after else {
        return Ok(said);
    };
    match age.map(|age| u128::from(age.as_millis().unsigned_abs())) {
        Some(age) if age <= stale_after.as_millis() => Ok(said),
        Some(_) => Err(format!("{said}, over database.stale_after")),
        None => Err(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_stale_once_it_is_older_than_allowed() {
        let seen = |written_at: i64, heartbeat: Option<i64>| {
            Ok(Seen {
                extent: Extent {
                    file: 1,
                    wal: 0,
                    written_at: Timestamp::from_millis(written_at),
                },
                heartbeat: heartbeat.map(Timestamp::from_millis),
            })
        };
        let half = Some(Duration::from_millis(500));
        let told = |look: Look, stale_after, now: i64| {
            fresh(look, stale_after, Timestamp::from_millis(now))
        };
        let ok = |said: &str| Ok(said.to_owned());
        let stale = |said: &str| Err(said.to_owned());

        let written = seen(1_000, None);
        assert_eq!(told(written, half, 0), ok("written 0s ago"));
        assert_eq!(told(written, half, 1_500), ok("written 500ms ago"));
        assert_eq!(
            told(written, half, 1_501),
            stale("written 501ms ago, over database.stale_after")
        );
        assert_eq!(told(written, None, 61_999), ok("written 1m ago"));

        // Whatever was done to the file meanwhile: it may be a copy.
        let beaten = seen(9_000, Some(8_000));
        assert_eq!(told(beaten, half, 8_500), ok("heartbeat 500ms ago"));
        assert_eq!(
            told(beaten, half, 11_000),
            stale("heartbeat 3s ago, over database.stale_after")
        );
        assert_eq!(told(beaten, half, 0), ok("heartbeat 0s ago"));
        assert_eq!(told(beaten, None, i64::MAX).map(|_| ()), Ok(()));

        let unknown = Err("file can't be looked at");
        assert_eq!(told(unknown, half, 0), stale("file can't be looked at"));
        assert_eq!(told(unknown, None, 0), ok("file can't be looked at"));
    }
}
