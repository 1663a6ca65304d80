//! What a request must be before its meaning matters: one valid Host, no Transfer-Encoding, a target and a
//! number of fields within our limits. hyper has parsed it by then, and refused what it can't parse.

use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Uri, Version};

use super::headers::Field;
use super::problem::{Kind, Problem, Violation};
use super::words::Rule;

const HOST_FIELD: &str = "Host";

/// The longest target, in bytes. The longest legal user id takes 3,072 of them, percent-encoded.
pub(super) const MAX_TARGET: usize = 6_144;

/// The most header field lines.
pub(super) const MAX_FIELDS: usize = 64;

/// Checks the frame of a request; the first of 400, 414 and 431 that applies is the answer.
pub(super) fn check(request: &Parts) -> Result<(), Problem> {
    let violations: Vec<Violation> = [
        host(request).map(|violation| violation.with_header(&request.headers, &HOST)),
        transfer_encoding(request)
            .map(|violation| violation.with_header(&request.headers, &TRANSFER_ENCODING)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !violations.is_empty() {
        return Err(Problem::invalid(violations));
    }
    if target_length(&request.uri) > MAX_TARGET {
        return Err(Problem::new(Kind::UriTooLong).with_arg("limit", MAX_TARGET));
    }
    if request.headers.len() > MAX_FIELDS {
        return Err(Problem::new(Kind::HeadersTooLarge).with_arg("limit", MAX_FIELDS));
    }
    Ok(())
}

/// RFC 9112 section 3.2: HTTP/1.1 has exactly one Host, and in any version it is a valid one. The authority of a
/// target in absolute form stands in for it (section 3.2.2).
fn host(request: &Parts) -> Option<Violation> {
    let authority = request.uri.scheme().and(request.uri.authority());
    let valid = match (Field::of(&request.headers, &HOST), authority) {
        (Field::Repeated, _) => return Some(Violation::duplicate(HOST_FIELD)),
        (Field::Absent, None) if request.version >= Version::HTTP_11 => {
            return Some(Violation::required(HOST_FIELD));
        }
        (Field::Absent, None) => true,
        (Field::Absent, Some(authority)) => is_host(authority.as_str().as_bytes()),
        (Field::Once(host), None) => is_host(host.as_bytes()),
        (Field::Once(host), Some(authority)) => {
            is_host(host.as_bytes()) && is_host(authority.as_str().as_bytes())
        }
    };
    (!valid).then(|| Violation::format(HOST_FIELD, Rule::Host))
}

/// RFC 9110 section 7.2: `uri-host [ ":" port ]`, without userinfo; empty where the target has no authority.
fn is_host(value: &[u8]) -> bool {
    // Nearly every Host is a plain name or address with or without a port, which is told at a glance.
    let (name, port) = match value.iter().position(|byte| *byte == b':') {
        Some(colon) => (&value[..colon], &value[colon + 1..]),
        None => (value, &b""[..]),
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if !name.is_empty() && name.iter().all(is_plain) && port.iter().all(u8::is_ascii_digit) {
        return true;
    }
    let Ok(authority) = Authority::try_from(value) else {
        return value.is_empty();
    };
    let Some(port) = authority.as_str().strip_prefix(authority.host()) else {
        return false;
    };
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// No operation takes a body, and a body whose end must be searched for is how requests are smuggled.
fn transfer_encoding(request: &Parts) -> Option<Violation> {
    let present = request.headers.contains_key(TRANSFER_ENCODING);
    present.then(|| Violation::not_allowed("Transfer-Encoding", Rule::NoTransferEncoding))
}

fn target_length(target: &Uri) -> usize {
    let scheme = target
        .scheme_str()
        .map_or(0, |scheme| scheme.len() + "://".len());
    let authority = target
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    scheme
        + authority
        + target
            .path_and_query()
            .map_or(0, |path| path.as_str().len())
}
