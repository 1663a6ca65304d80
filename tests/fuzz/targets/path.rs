//! The router and the decoder of a segment.
//!
//! The first byte picks the method and the listener's surface, the rest is the path. The oracle splits at every slash
//! first and decodes afterwards, a byte at a time.

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sessile::api::Surface;
use sessile::api::params::Question;
use sessile::api::router::{NoRoute, Route, decode_segment, route};
use sessile::time::Timestamp;

pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let surfaces = [Surface::All, Surface::Operation, Surface::Admin];
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT];
    let surface = surfaces[usize::from(choice % 3)];
    let method = &methods[usize::from(choice / 3 % 4)];

    assert_eq!(
        route(surface, method, Some(text)),
        expected(surface, method, text)
    );
    for segment in text.split('/') {
        check_segment(segment);
    }
    check_encoded(text);
}

/// The route by the segments of the path.
pub(crate) fn expected<'t>(
    surface: Surface,
    method: &Method,
    path: &'t str,
) -> Result<Route<'t>, NoRoute> {
    let segments: Vec<&str> = path.split('/').collect();
    let route = match segments[..] {
        ["", "internal", "session", "sessions", user_id, "active"] => Route::Active { user_id },
        ["", "healthz"] => Route::Health,
        ["", "readyz"] => Route::Ready,
        ["", "metrics"] => Route::Metrics,
        _ => return Err(NoRoute::NotFound),
    };
    let is_operation = matches!(route, Route::Active { .. });
    match surface {
        Surface::Operation if !is_operation => Err(NoRoute::NotFound),
        Surface::Admin if is_operation => Err(NoRoute::NotFound),
        _ if matches!(method.as_str(), "GET" | "HEAD") => Ok(route),
        _ => Err(NoRoute::MethodNotAllowed),
    }
}

/// The text of a segment, byte by byte.
pub(crate) fn decoded(segment: &str) -> Option<String> {
    let mut text = Vec::new();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        text.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(text).ok()
}

/// Whether a text can be a user id.
pub(crate) fn is_user(text: &str) -> bool {
    let is_control = |c: char| matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f);
    (1..=256).contains(&text.chars().count()) && !text.chars().any(is_control)
}

fn check_segment(segment: &str) {
    let wanted = decoded(segment);
    let found = decode_segment(segment).ok();
    assert_eq!(found.as_deref(), wanted.as_deref(), "{segment:?}");

    let headers: HeaderMap = [("x-tenant-id", "t")]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect();
    let question = Question::parse(&headers, segment, Timestamp::from_millis(0), false);
    let user = question.ok().map(|question| question.user.to_string());
    assert_eq!(user, wanted.filter(|text| is_user(text)), "{segment:?}");
}

/// Whatever a user is called, encoded it is one segment, and comes out as it went in.
fn check_encoded(user: &str) {
    let encoded = utf8_percent_encode(user, NON_ALPHANUMERIC);
    let path = format!("/internal/session/sessions/{encoded}/active");
    let Ok(Route::Active { user_id }) = route(Surface::All, &Method::GET, Some(&path)) else {
        panic!("{path} is no route");
    };
    assert_eq!(decode_segment(user_id).as_deref(), Ok(user));
}
