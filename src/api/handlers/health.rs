//! `/healthz` and `/readyz`: does the process live, and can it answer?

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
use crate::time::Timestamp;

/// How long a check may take before it has failed.
const BOUND: Duration = Duration::from_secs(1);

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
    detail: &'static str,
}

impl Check {
    fn new(name: &'static str, result: Result<&'static str, &'static str>) -> Self {
        let (Ok(detail) | Err(detail)) = result;
        Self {
            name,
            ok: result.is_ok(),
            detail,
        }
    }
}

/// 200 while a question would be answered, 503 while not, with each check by name.
pub(in crate::api) async fn readyz(api: &Local, live: &Live) -> Response<Full<Bytes>> {
    let checks = checks(api, live, &look(api).await).await;
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

/// What the file system told of the file, in a few words where it told nothing.
pub(super) type Look = Result<Extent, &'static str>;

/// Looks at the file, for as long as a check may take.
pub(super) async fn look(api: &Local) -> Look {
    let reader = api.shared.reader.clone();
    match timeout(BOUND, spawn_blocking(move || reader.extent())).await {
        Ok(Ok(Ok(extent))) => Ok(extent),
        Ok(_) => Err("file can't be looked at"),
        Err(_) => Err("no answer within 1 s"),
    }
}

/// Each check of what must hold for a question to be answered, and answered from data that is fresh enough.
pub(super) async fn checks(api: &Local, live: &Live, look: &Look) -> [Check; 4] {
    let accepting = if api.shared.is_leaving() {
        Err("stopping")
    } else {
        Ok("taking requests")
    };
    let stale_after = api.shared.settings.stale_after;
    [
        Check::new("accepting", accepting),
        Check::new("database", database(api, live).await),
        Check::new("integrity", integrity(api.shared.reader.integrity())),
        Check::new("fresh", fresh(*look, stale_after, Timestamp::now())),
    ]
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

/// Whether anybody has committed within `stale_after`: a feed that fell silent lets answers go wrong without an error.
/// What was written by a clock ahead of ours is fresh.
fn fresh(
    look: Look,
    stale_after: Option<Duration>,
    now: Timestamp,
) -> Result<&'static str, &'static str> {
    let Some(stale_after) = stale_after else {
        return Ok("off");
    };
    let age = now.saturating_since(look?.written_at).as_millis();
    let is_stale = u128::try_from(age).is_ok_and(|age| age > stale_after.as_millis());
    if is_stale {
        Err("nobody wrote for database.stale_after")
    } else {
        Ok("written lately")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_stale_once_it_is_older_than_allowed() {
        let look = Ok(Extent {
            file: 1,
            wal: 0,
            written_at: Timestamp::from_millis(1_000),
        });
        let is_fresh = |look: Look, millis: i64| {
            let now = Timestamp::from_millis(millis);
            fresh(look, Some(Duration::from_millis(500)), now)
        };
        for (now, is_ok) in [(0, true), (1_000, true), (1_500, true), (1_501, false)] {
            assert_eq!(is_fresh(look, now).is_ok(), is_ok, "{now}");
        }
        let unknown = Err("file can't be looked at");
        assert_eq!(is_fresh(unknown, 0), Err("file can't be looked at"));
        let now = Timestamp::from_millis(i64::MAX);
        assert_eq!(fresh(look, None, now), Ok("off"));
        assert_eq!(fresh(unknown, None, now), Ok("off"));
    }
}
