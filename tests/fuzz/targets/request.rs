//! A request, from its head to the bytes of the response: the parsers of the header fields, and the order of the
//! checks.
//!
//! The input is a letter for the mode (`d` for development), then a request line and header fields as they come over
//! the wire. Beyond what hyper would refuse itself, the oracle tells the status, the ids and the count by parsers of
//! its own; where a standard leaves room (an odd Host, a quoted string in Accept) it has no opinion.

use std::cell::LazyCell;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use rusqlite::Connection;
use serde_json::Value;
use sessile::api::auth::{ApiKey, Digest, Keyring};
use sessile::api::negotiate::quality;
use sessile::api::router::Route;
use sessile::api::trace::parse_traceparent;
use sessile::api::{Api, Endpoint, FrameLimits, Settings, Surface};
use sessile::session::{Policies, TenantId};
use sessile::store::{Options, Reader, Snapshot, writer};
use sessile::time::{Span, Timestamp};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::path;

const KEY: &str = "key";
/// A key for the tenant `a` alone.
const NARROW: &str = "narrow";

/// Tenant, user, expiry and idle expiry of each session. Those between 2001 and 2100 are for pinned clocks.
const SESSIONS: [(&str, &str, i64, Option<i64>); 6] = [
    ("a", "u", 1_795_435_200_000, None),
    ("a", "u", 1_795_435_200_001, None),
    ("a", "u", 253_402_300_799_999, Some(1_795_435_200_000)),
    ("a", "u", 253_402_300_799_999, None),
    ("a", "a/b", 253_402_300_799_999, None),
    ("b", "名", 253_402_300_799_999, None),
];

/// Two servers of one file, in production and in development.
struct Bench {
    runtime: Runtime,
    production: Endpoint,
    development: Endpoint,
    _folder: TempDir,
}

thread_local! {
    static BENCH: LazyCell<Bench> = LazyCell::new(Bench::new);
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fuzz.db");
        writer::create(&file).unwrap();
        let connection = Connection::open(&file).unwrap();
        for (number, (tenant, user, expiry, idle)) in SESSIONS.into_iter().enumerate() {
            connection
                .execute(
                    "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, idle_expires_at)
                     VALUES (?1, ?2, ?3, 0, ?4, ?5)",
                    (tenant, number.to_string(), user, expiry, idle),
                )
                .unwrap();
        }
        let endpoint = |development| {
            let mut keyring = Keyring::default();
            for (name, tenants) in [
                (KEY, None),
                (NARROW, Some([TenantId::new("a").unwrap()].into())),
            ] {
                keyring.add(ApiKey {
                    name: name.to_owned(),
                    digest: Digest::of(name.as_bytes()),
                    tenants,
                    not_after: None,
                    max_rate: None,
                });
            }
            let settings = Settings {
                development,
                key_header: HeaderName::from_static("x-api-key"),
                service: "fuzz".to_owned(),
                problems_base_url: "/problems/".to_owned(),
                max_in_flight: 8,
                frame: FrameLimits {
                    target_bytes: 6_144,
                    fields: 64,
                    field_bytes: 16_384,
                },
                workers: 1,
            };
            let options = Options {
                pool_size: 2,
                snapshot: Snapshot::Held,
            };
            let reader = Reader::open(&file, options).unwrap();
            let api = Api::new(settings, keyring, Policies::default(), reader).unwrap();
            api.endpoints(&[Surface::All]).remove(0).remove(0)
        };
        Self {
            production: endpoint(false),
            development: endpoint(true),
            runtime: runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _folder: folder,
        }
    }

    fn ask(&self, development: bool, request: Request<Empty<Bytes>>) -> (Response<()>, Bytes) {
        let endpoint = if development {
            &self.development
        } else {
            &self.production
        };
        self.runtime.block_on(async {
            let response: Response<Full<Bytes>> = endpoint.clone().respond(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (Response::from_parts(head, ()), body)
        })
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some((mode, head)) = data.split_first() else {
        return;
    };
    let development = *mode == b'd';
    let Some(request) = parse(head) else {
        return;
    };
    for value in request.headers().values() {
        check_value(value);
    }
    let (response, body) = BENCH.with(|bench| bench.ask(development, request.clone()));

    let (status, headers) = (response.status().as_u16(), response.headers());
    let wanted = expected(&request, development);
    assert!(
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&status)),
        "{status} instead of {wanted:?} to {request:?}"
    );
    check_request_id(request.headers(), &headers["x-request-id"]);
    if request.method() == Method::HEAD {
        assert!(body.is_empty());
        assert!(headers.contains_key("content-length"));
    } else if status == 200 {
        check_answer(&request, development, &body);
    } else {
        check_problem(&request, status, headers, &body);
    }
}

/// The request, if hyper would hand it on.
fn parse(head: &[u8]) -> Option<Request<Empty<Bytes>>> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().try_append(name, value).ok()?;
    }
    Some(request)
}

/// The statuses that are right; `None` where the oracle has no opinion.
fn expected(request: &Request<Empty<Bytes>>, development: bool) -> Option<Vec<u16>> {
    let (headers, target) = (request.headers(), request.uri());
    let is_framed = is_host(request)?;
    if !is_framed || headers.contains_key("transfer-encoding") {
        return Some(vec![400]);
    }
    if target.to_string().len() > 6_144 {
        // `to_string` adds the slash that an absolute form may leave out.
        return Some(if target.to_string().len() == 6_145 {
            vec![200, 400, 401, 403, 404, 405, 414]
        } else {
            vec![414]
        });
    }
    if headers.len() > 64 {
        return Some(vec![431]);
    }
    let is_read = matches!(request.method().as_str(), "GET" | "HEAD");
    let path = target
        .path_and_query()
        .map(|_| target.path())
        .filter(|path| *path != "*");
    let route = match path {
        None if is_read => return Some(vec![404]),
        None => return Some(vec![405]),
        Some(path) => path::expected(Surface::All, request.method(), path),
    };
    let user = match route {
        Ok(Route::Active { user_id }) => path::decoded(user_id).filter(|user| path::is_user(user)),
        Ok(Route::Health | Route::Ready | Route::Metrics) => return Some(vec![200]),
        Err(sessile::api::router::NoRoute::NotFound) => return Some(vec![404]),
        Err(sessile::api::router::NoRoute::MethodNotAllowed) => return Some(vec![405]),
    };
    let Some(key) = only(headers, "x-api-key")
        .filter(|key| *key == KEY.as_bytes() || *key == NARROW.as_bytes())
    else {
        return Some(vec![401]);
    };
    let is_visible = |tenant: &&[u8]| {
        (1..=128).contains(&tenant.len()) && tenant.iter().all(|byte| (0x21..=0x7e).contains(byte))
    };
    let tenant = only(headers, "x-tenant-id").filter(is_visible);
    let (Some(tenant), Some(_), Some(_)) = (tenant, user, instant(headers, development)) else {
        return Some(vec![400]);
    };
    Some(vec![if key == NARROW.as_bytes() && tenant != b"a" {
        403
    } else {
        200
    }])
}

/// The value of a field that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    match values[..] {
        [value] => Some(value.as_bytes()),
        _ => None,
    }
}

/// Whether there is one valid Host, or an authority in its place.
fn is_host(request: &Request<Empty<Bytes>>) -> Option<bool> {
    let fields = request.headers().get_all("host").iter().count();
    let authority = request.uri().scheme().and(request.uri().authority());
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    match (fields, authority) {
        (0, None) => Some(false),
        (0, Some(authority)) => is_authority(authority),
        (1, authority) => {
            let host = is_authority(only(request.headers(), "host").unwrap_or_default());
            let authority = authority.map_or(Some(true), is_authority);
            match (host, authority) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }
        }
        _ => Some(false),
    }
}

/// Whether it is a name or an address with or without a port, without userinfo.
fn is_authority(value: &[u8]) -> Option<bool> {
    if value
        .iter()
        .any(|byte| b"@/?# \t\"<>\\^`{|}".contains(byte) || *byte >= 0x80)
    {
        return Some(false);
    }
    let name = value
        .iter()
        .position(|byte| *byte == b':')
        .map_or(value, |colon| &value[..colon]);
    let port = &value[name.len()..];
    let is_plain = name
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte));
    let is_port = port.is_empty() || port[1..].iter().all(u8::is_ascii_digit);
    (!name.is_empty() && is_plain && is_port).then_some(true)
}

/// The instant that the request asks about; `None` where it must not say one, or says nonsense.
fn instant(headers: &HeaderMap, development: bool) -> Option<i64> {
    match headers.get_all("x-sessile-now").iter().count() {
        0 => Some(Timestamp::now().as_millis()),
        1 if development => rfc3339(only(headers, "x-sessile-now")?),
        _ => None,
    }
}

/// RFC 3339 section 5.6, in milliseconds, up to the end of the year 9999.
fn rfc3339(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_uppercase();
    let (date, time) = text.split_once('T')?;
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let sign = time.len().checked_sub(6)?;
            let (time, offset) = time.split_at_checked(sign)?;
            let [hours, minutes] = numbers(&offset[1..], ':', [2, 2])?;
            let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            match offset.as_bytes()[0] {
                b'+' => (time, minutes),
                b'-' => (time, -minutes),
                _ => return None,
            }
        }
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction}00")[..3].parse().ok()?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        28 + i64::from(is_leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1..=*lengths.get(month)?).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The years before this one, from the year 0 on, which is a leap year.
    let leap_years = (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let days = year * 365 + leap_years + lengths[..month].iter().sum::<i64>() + day - 1 - 719_528;
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    let is_end_of_day = seconds.rem_euclid(86_400) == 0;
    let instant = seconds * 1_000 + millis;
    ((second < 60 || is_end_of_day) && instant <= 253_402_300_799_999).then_some(instant)
}

/// Numbers of so many digits each, between marks.
fn numbers<const N: usize>(text: &str, mark: char, widths: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(mark).collect();
    let parts: [&str; N] = parts.try_into().ok()?;
    let mut found = [0; N];
    for (index, part) in parts.iter().enumerate() {
        if part.len() != widths[index] || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        found[index] = part.parse().ok()?;
    }
    Some(found)
}

/// What each parser makes of a value, whichever field it stands in.
fn check_value(value: &HeaderValue) {
    let trace = parse_traceparent(value.as_bytes());
    assert_eq!(trace, traceparent(value.as_bytes()), "{value:?}");
    let Ok(text) = value.to_str() else { return };
    let found = Timestamp::parse_rfc3339(text).ok();
    assert_eq!(
        found.map(Timestamp::as_millis),
        rfc3339(text.as_bytes()),
        "{text}"
    );
    if let Some(found) = found {
        assert_eq!(
            Timestamp::parse_rfc3339(&found.to_string()),
            Ok(found),
            "{text}"
        );
    }
    if let Ok(span) = Span::parse(text) {
        assert_eq!(Span::parse(&span.to_string()), Ok(span), "{text}");
    }
    for media_type in ["application/json", "application/problem+json"] {
        let found = quality([text].into_iter(), media_type);
        assert!(found <= 1_000);
        assert!(
            weight(text, media_type).is_none_or(|wanted| wanted == found),
            "{text:?}"
        );
    }
}

/// W3C Trace Context section 3.2.2, by the hyphens.
fn traceparent(value: &[u8]) -> Option<(u128, bool)> {
    let parts: Vec<&[u8]> = value.splitn(5, |byte| *byte == b'-').collect();
    let digits = |part: &[u8], width| {
        let is_hex = part
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let text = std::str::from_utf8(part).ok()?;
        (part.len() == width && is_hex)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
    };
    let [version, trace, parent, flags, rest @ ..] = &parts[..] else {
        return None;
    };
    let version = digits(version, 2)?;
    let (trace, parent, flags) = (digits(trace, 32)?, digits(parent, 16)?, digits(flags, 2)?);
    let is_known = version != 0xff && (version != 0 || rest.is_empty());
    (is_known && trace != 0 && parent != 0).then_some((trace, flags % 2 == 1))
}

/// RFC 9110 section 12.5.1 for lists without quotes and without parameters but the weight.
fn weight(list: &str, media_type: &str) -> Option<u16> {
    let mut found: [Option<u16>; 3] = [None; 3];
    let (top, _) = media_type.split_once('/')?;
    if list.contains(['"', '\\', '\t']) {
        return None;
    }
    for element in list.split(',') {
        let mut parts = element
            .split(';')
            .map(|part| part.trim().to_ascii_lowercase());
        let range = parts.next()?;
        let weight = match (parts.next(), parts.next()) {
            (None, _) => 1_000,
            (Some(parameter), None) => {
                let weight = parameter.strip_prefix("q=")?;
                let padded = format!("{weight:0<5}").replacen(
                    "0000",
                    ".000",
                    usize::from(weight.len() == 1),
                );
                let (whole, decimals) = padded.split_once('.')?;
                if weight.ends_with('.')
                    || weight.len() > 5
                    || decimals.len() != 3
                    || !decimals.bytes().all(|byte| byte.is_ascii_digit())
                {
                    return None;
                }
                match (whole, decimals.parse::<u16>().ok()?) {
                    ("0", thousandths) => thousandths,
                    ("1", 0) => 1_000,
                    _ => return None,
                }
            }
            _ => return None,
        };
        let place = if range == media_type {
            2
        } else if range == format!("{top}/*") {
            1
        } else if range == "*/*" {
            0
        } else {
            continue;
        };
        found[place] = found[place].max(Some(weight));
    }
    Some(found.into_iter().rev().flatten().next().unwrap_or(0))
}

fn check_request_id(headers: &HeaderMap, answered: &HeaderValue) {
    let is_harmless = |id: &&[u8]| {
        (1..=128).contains(&id.len())
            && id
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    };
    match only(headers, "x-request-id").filter(is_harmless) {
        Some(id) => assert_eq!(answered.as_bytes(), id),
        None => {
            let made = answered.to_str().unwrap();
            assert!(made.starts_with("req_") && made.len() == 40, "{made}");
        }
    }
}

fn check_answer(request: &Request<Empty<Bytes>>, development: bool, body: &[u8]) {
    let Ok(Route::Active { user_id }) =
        path::expected(Surface::All, &Method::GET, request.uri().path())
    else {
        return;
    };
    let (user, tenant) = (
        path::decoded(user_id).unwrap(),
        only(request.headers(), "x-tenant-id").unwrap(),
    );
    let at = instant(request.headers(), development).unwrap();
    let is_live = |session: &&(&str, &str, i64, Option<i64>)| {
        let (owner, name, expiry, idle) = **session;
        owner.as_bytes() == tenant
            && name == user
            && at < expiry
            && idle.is_none_or(|idle| at < idle)
    };
    let count = SESSIONS.iter().filter(is_live).count();
    let wanted = format!("{{\"active\":{},\"session_count\":{count}}}", count > 0);
    assert_eq!(String::from_utf8_lossy(body), wanted, "{request:?}");
}

fn check_problem(request: &Request<Empty<Bytes>>, status: u16, headers: &HeaderMap, body: &[u8]) {
    let problem: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(
        problem["request_id"],
        headers["x-request-id"].to_str().unwrap()
    );
    let members = problem.as_object().unwrap();
    assert!(members.values().all(|value| !value.is_null()), "{problem}");
    assert_eq!(status == 400, members.contains_key("errors"), "{problem}");

    let (trace, sampled) = match only(request.headers(), "traceparent").and_then(traceparent) {
        Some((trace, sampled)) => (Some(trace), sampled),
        None => (None, false),
    };
    let parent = problem["trace_id"].as_str().unwrap();
    let (found, found_sampled) = traceparent(parent.as_bytes()).unwrap();
    assert!(
        parent.starts_with("00-") && trace.is_none_or(|trace| trace == found),
        "{problem}"
    );
    assert_eq!(found_sampled, sampled);
    assert!(parent.contains(problem["span_id"].as_str().unwrap()));

    let lines: Vec<&str> = request
        .headers()
        .get_all("accept")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let list = lines.join(",");
    let weights = ["application/json", "application/problem+json"]
        .map(|media_type| weight(&list, media_type));
    if let [Some(json), Some(problem_json)] = weights {
        let wanted = if problem_json > json {
            "application/problem+json"
        } else {
            "application/json"
        };
        assert_eq!(headers["content-type"], wanted, "{list}");
    }
}
