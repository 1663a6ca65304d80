//! What a request must be before its meaning matters: one valid Host, no Transfer-Encoding, a target and a
//! number of fields within our limits. hyper has parsed it by then, and refused what it can't parse.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{Uri, Version};

use super::headers::Field;
use super::problem::{Kind, Problem, Violation};

const HOST_FIELD: &str = "Host";

/// How large a request may be. hyper's own limits must lie above these.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// The longest target, in bytes. The longest legal user id takes 3,072 of them, percent-encoded.
    pub target_bytes: usize,
    /// The most header field lines.
    pub fields: usize,
    /// The most bytes of all header field lines together.
    pub field_bytes: usize,
}

/// Checks the frame of a request; the first of 400, 414 and 431 that applies is the answer.
pub(super) fn check(request: &Parts, limits: &FrameLimits) -> Result<(), Problem> {
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
    if target_length(&request.uri) > limits.target_bytes {
        return Err(Problem::new(Kind::UriTooLong).with_arg("limit", limits.target_bytes));
    }
    if request.headers.len() > limits.fields || field_bytes(&request.headers) > limits.field_bytes {
        return Err(Problem::new(Kind::HeadersTooLarge)
            .with_arg("limit", limits.fields)
            .with_arg("bytes", limits.field_bytes));
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
    (!valid).then(|| {
        Violation::format(
            HOST_FIELD,
            "a host name or address, with a port where it is not the default",
        )
    })
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
    value.is_empty() || is_unusual_host(value)
}

/// RFC 3986 section 3.2.2: an address in brackets, or a name of unreserved characters, sub-delimiters and
/// percent-encoded bytes, which is not empty where a port follows (RFC 9110 section 4.2.1).
fn is_unusual_host(value: &[u8]) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
    let (is_valid, port) = if let Some(inside) = value.strip_prefix(b"[") {
        let Some(end) = inside.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let (address, rest) = (&inside[..end], &inside[end + 1..]);
        let address = str::from_utf8(address).unwrap_or_default();
        (
            address.parse::<Ipv6Addr>().is_ok() || is_future_address(address, is_name),
            rest,
        )
    } else {
        let end = value.iter().position(|byte| *byte == b':');
        let (name, rest) = value.split_at(end.unwrap_or(value.len()));
        let mut parts = name.split(|byte| *byte == b'%');
        let begins = parts.next().unwrap_or_default();
        let is_encoded = |part: &[u8]| {
            part.len() >= 2
                && part[..2].iter().all(u8::is_ascii_hexdigit)
                && part[2..].iter().all(|byte| is_name(*byte))
        };
        (
            !name.is_empty() && begins.iter().all(|byte| is_name(*byte)) && parts.all(is_encoded),
            rest,
        )
    };
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    is_valid && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`
fn is_future_address(address: &str, is_name: impl Fn(u8) -> bool) -> bool {
    let version = address.strip_prefix(['v', 'V']);
    version
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(version, rest)| {
            let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            !version.is_empty()
                && is_hex(version)
                && !rest.is_empty()
                && rest.bytes().all(|byte| is_name(byte) || byte == b':')
        })
}

/// No operation takes a body, and a body whose end must be searched for is how requests are smuggled.
fn transfer_encoding(request: &Parts) -> Option<Violation> {
    let present = request.headers.contains_key(TRANSFER_ENCODING);
    present.then(|| {
        Violation::not_allowed(
            "Transfer-Encoding",
            "is not allowed: no request here has a body",
        )
    })
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

/// What the field lines take, each with its colon, a blank and the end of its line.
fn field_bytes(fields: &HeaderMap) -> usize {
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    fields.iter().map(length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_the_grammar_says() {
        for host in [
            "",
            "a",
            "a:",
            "a:80",
            "a.example:8080",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "[v1.a:b]",
            "a%41",
            "%61:80",
            "a_b",
            "a~b!$&'()*+,;=",
            "[::ffff:1.2.3.4]",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            " ",
            ":",
            ":80",
            "a b",
            "a:b",
            "a:80:80",
            "a/b",
            "a?b",
            "a#b",
            "user@a",
            "http://a/",
            "[::1",
            "::1",
            "[::1]80",
            "[::1]:x",
            "[]",
            "[a]",
            "[v.a]",
            "[v1.]",
            "[::1%25eth0]",
            "a%",
            "a%4",
            "a%4g",
            "a%%41",
            "a,b c",
            "a\\b",
            "é",
            "a[b]",
            "a\t",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
