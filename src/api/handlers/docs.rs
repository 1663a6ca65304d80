//! The pages that explain this API, and the way to them.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, ETAG, HeaderValue, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, VARY,
};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use crate::api::headers::respond;
use crate::api::negotiate::language;
use crate::api::problem::{Kind, Problem};
use crate::api::router::{Page as Name, Surface};
use crate::api::service::Local;

/// The page, or a 304 for those who have it. It may be kept, but is asked for again each time: the next start may
/// change it.
pub(in crate::api) fn page(
    api: &Local,
    request: &Parts,
    name: Name,
) -> Result<Response<Full<Bytes>>, Problem> {
    let has_operation = api.surface == Surface::All;
    let Some(page) = api
        .shared
        .pages
        .get(name, has_operation, language(&request.headers))
    else {
        return Err(Problem::new(Kind::NotFound));
    };
    let (status, body) = if is_known(request, &page.etag) {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, page.body.clone())
    };
    let mut response = respond(status, page.content_type, body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ETAG, page.etag.clone());
    if let Some(policy) = page.policy {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    if let Some(language) = page.language {
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    }
    if page.varies {
        headers.insert(VARY, HeaderValue::from_static("Accept-Language"));
    }
    Ok(response)
}

/// RFC 9110 section 13.1.2, by the weak comparison.
fn is_known(request: &Parts, etag: &HeaderValue) -> bool {
    let lines = request.headers.get_all(IF_NONE_MATCH).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == etag.as_bytes())
}

/// `/` leads to the reference.
pub(in crate::api) fn home() -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::FOUND, "text/plain; charset=utf-8", "/docs\n");
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("/docs"));
    response
}
