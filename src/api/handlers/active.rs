//! `GET /internal/session/sessions/{user_id}/active`: does this user have an active session, and how many?

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde::{Serialize, Serializer};

use crate::api::auth::Refusal;
use crate::api::headers::{JSON, respond};
use crate::api::live::Live;
use crate::api::params::Question;
use crate::api::problem::{Kind, Problem, to_json};
use crate::api::service::{Asked, Local, Seen, Step};
use crate::time::Timestamp;

/// The answer, upstream's `dto.ActiveSessionStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSessionStatus {
    pub session_count: u64,
}

impl ActiveSessionStatus {
    pub fn is_active(self) -> bool {
        self.session_count > 0
    }
}

/// How many counts have their answer written beforehand: few users have more sessions.
const PREPARED: usize = 32;

/// The answers for the counts from 0 on.
static ANSWERS: LazyLock<[Bytes; PREPARED]> = LazyLock::new(|| {
    std::array::from_fn(|count| {
        let session_count = count as u64;
        // Leaked once, they are copied without a counter of references that all cores would write.
        Bytes::from_static(to_json(&ActiveSessionStatus { session_count }).leak())
    })
});

fn answer(session_count: u64) -> Bytes {
    usize::try_from(session_count)
        .ok()
        .and_then(|count| ANSWERS.get(count).cloned())
        .unwrap_or_else(|| to_json(&ActiveSessionStatus { session_count }).into())
}

impl Serialize for ActiveSessionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut object = serializer.serialize_struct("ActiveSessionStatus", 2)?;
        object.serialize_field("active", &self.is_active())?;
        object.serialize_field("session_count", &self.session_count)?;
        object.end()
    }
}

pub(in crate::api) fn active<'a>(
    api: &Arc<Local>,
    live: &'a Live,
    asked: &Asked,
    user_segment: &str,
    seen: &mut Seen<'a>,
) -> Result<Step, Problem> {
    let headers = &asked.head.headers;
    let clock = Timestamp::now();
    let caller = live
        .callers
        .authenticate(headers, &api.shared.settings.key_header, clock)
        .map_err(|refusal| refuse(api, refusal))?;
    seen.caller = Some(Cow::Borrowed(caller));
    caller
        .take_turn()
        .inspect_err(|_| caller.uses.of(api.worker).limited.add_one())?;
    let question = Question::parse(
        headers,
        user_segment,
        clock,
        api.shared.settings.development,
    )?;
    if !caller.key.allows(&question.tenant) {
        return Err(Problem::new(Kind::TenantNotAllowed));
    }
    let cutoffs = live.policies.of(&question.tenant).cutoffs(question.at);
    let (tenant, user) = (&question.tenant, &question.user);
    let began = Instant::now();
    if let Some(count) = api.lane.count_at_once(tenant, user, &cutoffs, began) {
        let counted_at = Instant::now();
        api.counts().counted_at_once.count(counted_at - began);
        seen.counted_at = Some(counted_at);
        return Ok(Step::Done(response(count)));
    }
    let (api, count) = (Arc::clone(api), api.lane.count(tenant, user, &cutoffs));
    Ok(Step::wait(async move {
        let count = count.await;
        api.counts().counted_later.count(began.elapsed());
        count.map(response).map_err(Problem::internal)
    }))
}

fn response(session_count: u64) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, JSON, answer(session_count))
}

/// The one answer for every reason, which is counted by reason.
fn refuse(api: &Local, refusal: Refusal) -> Problem {
    let refused = &api.counts().refused;
    let counter = match refusal {
        Refusal::Missing => &refused.missing,
        Refusal::Repeated => &refused.repeated,
        Refusal::Unknown => &refused.unknown,
        Refusal::Expired => &refused.expired,
    };
    counter.add_one();
    Problem::new(Kind::InvalidApiKey)
}
