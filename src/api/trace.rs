//! The ids of a request: its request id, and its place in a distributed trace (W3C Trace Context).

use std::fmt;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use super::headers::{Field, TRACEPARENT, X_REQUEST_ID};

/// The request id for the response: the caller's where it sent one that can be kept, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match Field::of(headers, &X_REQUEST_ID) {
        Field::Once(value) if is_kept(value.as_bytes()) => value.clone(),
        _ => new_request_id(),
    }
}

/// 1 to 128 characters that mean nothing in a log line, a header or a shell.
fn is_kept(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
}

/// `req_` and a random UUID.
fn new_request_id() -> HeaderValue {
    const PREFIX: &[u8] = b"req_";
    let mut text = [0; PREFIX.len() + uuid::fmt::Hyphenated::LENGTH];
    let (prefix, uuid) = text.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .hyphenated()
        .encode_lower(uuid);
    // Lower-case hexadecimal, hyphens and the prefix are all visible ASCII.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("req_"))
}

/// This server's span in the caller's trace, or in a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceContext {
    /// The one of the specification's own examples.
    pub(super) const EXAMPLE: Self = Self {
        trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        span: 0xb7ad_6b71_6920_3331,
        sampled: true,
    };

    /// The caller's trace with a span of our own. A missing, repeated or invalid traceparent is no fault of the
    /// request: a new trace begins (W3C Trace Context section 3.2.2.5).
    pub fn of(headers: &HeaderMap) -> Self {
        let parent = match Field::of(headers, &TRACEPARENT) {
            Field::Once(value) => parse_traceparent(value.as_bytes()),
            Field::Absent | Field::Repeated => None,
        };
        let (trace, sampled) = parent.unwrap_or_else(|| (rand::random_range(1..=u128::MAX), false));
        Self {
            trace,
            sampled,
            span: rand::random_range(1..=u64::MAX),
        }
    }

    /// 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// 16 lower-case hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }
}

/// As a traceparent value of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// The trace id and the sampled flag of a traceparent (section 3.2.2). Of a version after 00 the part that
/// version 00 knows is read, if nothing or another field follows it (section 3.2.4).
pub fn parse_traceparent(value: &[u8]) -> Option<(u128, bool)> {
    let (head, tail) = value.split_at_checked(55)?;
    let [b'-', b'-', b'-'] = [head[2], head[35], head[52]] else {
        return None;
    };
    let version = hex(&head[0..2])?;
    let trace = hex(&head[3..35]).filter(|&trace| trace != 0)?;
    hex(&head[36..52]).filter(|&parent| parent != 0)?;
    let flags = hex(&head[53..55])?;
    let complete = match version {
        0x00 => tail.is_empty(),
        0xff => false,
        _ => tail.is_empty() || tail[0] == b'-',
    };
    complete.then_some((trace, flags & 1 == 1))
}

/// The value of lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(sum << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn traceparent_is_read_as_the_recommendation_says() {
        let id = u128::from_str_radix(TRACE, 16).unwrap();
        for (value, wanted) in [
            (format!("00-{TRACE}-b7ad6b7169203331-01"), Some((id, true))),
            (format!("00-{TRACE}-b7ad6b7169203331-00"), Some((id, false))),
            (format!("00-{TRACE}-b7ad6b7169203331-ff"), Some((id, true))),
            (format!("01-{TRACE}-b7ad6b7169203331-01"), Some((id, true))),
            (
                format!("cc-{TRACE}-b7ad6b7169203331-01-more"),
                Some((id, true)),
            ),
            (format!("cc-{TRACE}-b7ad6b7169203331-01more"), None),
            (format!("00-{TRACE}-b7ad6b7169203331-01-more"), None),
            (format!("ff-{TRACE}-b7ad6b7169203331-01"), None),
            (
                format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
                None,
            ),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-0000000000000000-01"), None),
            (format!("00-{TRACE}-b7ad6b7169203331-0"), None),
            (format!("00_{TRACE}-b7ad6b7169203331-01"), None),
            (format!("0g-{TRACE}-b7ad6b7169203331-01"), None),
            (String::new(), None),
        ] {
            assert_eq!(parse_traceparent(value.as_bytes()), wanted, "{value}");
        }
    }

    #[test]
    fn a_new_trace_is_not_sampled_and_has_ids_of_full_width() {
        let trace = TraceContext {
            trace: 1,
            span: 2,
            sampled: false,
        };
        assert_eq!(
            trace.to_string(),
            format!("00-{:0>32}-{:0>16}-00", "1", "2")
        );
        assert_ne!(
            TraceContext::of(&HeaderMap::new()),
            TraceContext::of(&HeaderMap::new())
        );
    }

    #[test]
    fn a_request_id_of_the_caller_is_kept_only_where_it_is_harmless() {
        let with =
            |id: &str| HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(id).unwrap())]);
        for id in ["a", "req_1.2-3", &"x".repeat(128)] {
            assert_eq!(request_id(&with(id)), id);
        }
        for id in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            let made = request_id(&with(id));
            let uuid = made
                .to_str()
                .unwrap()
                .strip_prefix("req_")
                .unwrap()
                .parse::<uuid::Uuid>()
                .unwrap();
            assert_eq!((made.len(), uuid.get_version_num()), (40, 4), "{id}");
        }
    }
}
