//! `/healthz` and `/readyz`: does the process live, and can it answer?

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::time::timeout;

use crate::api::headers::{JSON, respond};
use crate::api::live::Live;
use crate::api::problem::to_json;
use crate::api::service::Local;
use crate::session::{TenantId, UserId};
use crate::store::integrity::{Report, Verdict};
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
struct Check {
    name: &'static str,
    ok: bool,
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
    let accepting = if api.shared.is_leaving() {
        Err("stopping")
    } else {
        Ok("taking requests")
    };
    let checks = [
        Check::new("accepting", accepting),
        Check::new("database", database(api, live).await),
        Check::new("integrity", integrity(api.shared.integrity())),
    ];
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
