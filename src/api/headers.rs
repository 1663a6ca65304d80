//! The header fields that this API reads and writes.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{HeaderMap, Response, StatusCode};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_SESSILE_NOW: HeaderName = HeaderName::from_static("x-sessile-now");
pub(super) const X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A field that may be sent once.
pub(super) enum Field<'h> {
    Absent,
    Once(&'h HeaderValue),
    Repeated,
}

impl<'h> Field<'h> {
    pub(super) fn of(headers: &'h HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(only), None) => Self::Once(only),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }
}

/// A response whose body is made for this request alone: nothing on the way may keep it or guess at its type.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) const JSON: &str = "application/json";
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
