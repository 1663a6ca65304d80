//! The Problem object (RFC 9457 with the members of upstream's `dto.Problem`) and the one catalogue of its kinds.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CONTENT_LANGUAGE, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::negotiate::problem_type;
use super::trace::TraceContext;
use super::{headers, router};
use crate::time::Timestamp;

/// The longest `instance`, in bytes; a longer one is left out.
const MAX_INSTANCE: usize = 2_048;

/// The kinds of Problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidRequest,
    InvalidApiKey,
    TenantNotAllowed,
    NotFound,
    MethodNotAllowed,
    UriTooLong,
    TooManyRequests,
    HeadersTooLarge,
    InternalError,
    Unavailable,
}

/// What all Problems of a kind have in common.
struct Entry {
    status: StatusCode,
    /// The last segment of `type`.
    slug: &'static str,
    /// `error.` and the slug with underscores.
    i18n_key: &'static str,
    /// The business code: the service's 3010, the status, and a digit to tell apart what shares one.
    code: u32,
    title: &'static str,
    /// `{name}` stands for the argument of that name.
    detail: &'static str,
}

impl Kind {
    fn entry(self) -> Entry {
        match self {
            Self::InvalidRequest => Entry {
                status: StatusCode::BAD_REQUEST,
                slug: "invalid-request",
                i18n_key: "error.invalid_request",
                code: 30104000,
                title: "Invalid Request Parameters",
                detail: "The request is not valid in: {fields}.",
            },
            Self::InvalidApiKey => Entry {
                status: StatusCode::UNAUTHORIZED,
                slug: "invalid-api-key",
                i18n_key: "error.invalid_api_key",
                code: 30104010,
                title: "Invalid API Key",
                detail: "The request does not carry exactly one known API key.",
            },
            Self::TenantNotAllowed => Entry {
                status: StatusCode::FORBIDDEN,
                slug: "tenant-not-allowed",
                i18n_key: "error.tenant_not_allowed",
                code: 30104030,
                title: "Tenant Not Allowed",
                detail: "The API key may not be used for this tenant.",
            },
            Self::NotFound => Entry {
                status: StatusCode::NOT_FOUND,
                slug: "not-found",
                i18n_key: "error.not_found",
                code: 30104040,
                title: "Not Found",
                detail: "No operation has this path.",
            },
            Self::MethodNotAllowed => Entry {
                status: StatusCode::METHOD_NOT_ALLOWED,
                slug: "method-not-allowed",
                i18n_key: "error.method_not_allowed",
                code: 30104050,
                title: "Method Not Allowed",
                detail: "The method {method} is not allowed here; {allow} are.",
            },
            Self::UriTooLong => Entry {
                status: StatusCode::URI_TOO_LONG,
                slug: "uri-too-long",
                i18n_key: "error.uri_too_long",
                code: 30104140,
                title: "URI Too Long",
                detail: "The request target is longer than {limit} bytes.",
            },
            // RFC 6585 section 4
            Self::TooManyRequests => Entry {
                status: StatusCode::TOO_MANY_REQUESTS,
                slug: "too-many-requests",
                i18n_key: "error.too_many_requests",
                code: 30104290,
                title: "Too Many Requests",
                detail: "The API key has made more requests than its rate allows; try again in {retry_after} s.",
            },
            Self::HeadersTooLarge => Entry {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                slug: "headers-too-large",
                i18n_key: "error.headers_too_large",
                code: 30104310,
                title: "Request Header Fields Too Large",
                detail: "The request has more than {limit} header fields, or more than {bytes} bytes of them.",
            },
            Self::InternalError => Entry {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                slug: "internal-error",
                i18n_key: "error.internal_error",
                code: 30105000,
                title: "Internal Server Error",
                detail: "No answer could be given; the server's log has the cause under this request_id.",
            },
            Self::Unavailable => Entry {
                status: StatusCode::SERVICE_UNAVAILABLE,
                slug: "unavailable",
                i18n_key: "error.unavailable",
                code: 30105030,
                title: "Service Unavailable",
                detail: "The server is busy or about to stop; try again in {retry_after} s.",
            },
        }
    }
}

/// Why a request is not answered: a text for the client, made of kind and arguments, and one for the log.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    args: Map<String, Value>,
    violations: Vec<Violation>,
    retry_after: Option<u32>,
    cause: Option<String>,
}

impl Problem {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            args: Map::new(),
            violations: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// A 400 for these violations.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field).collect();
        Self {
            violations,
            ..Self::new(Kind::InvalidRequest).with_arg("fields", fields.join(", "))
        }
    }

    /// A 500; `cause` is for the log alone.
    pub fn internal(cause: impl ToString) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(Kind::InternalError)
        }
    }

    /// A 503 for now; the same request may be sent again after as many seconds.
    pub fn unavailable(retry_after: u32, cause: &str) -> Self {
        Self {
            retry_after: Some(retry_after),
            cause: Some(cause.to_owned()),
            ..Self::new(Kind::Unavailable).with_arg("retry_after", retry_after)
        }
    }

    /// A 429: the key's rate is passed; the same request may be sent again after as many seconds.
    pub fn too_many_requests(retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Kind::TooManyRequests).with_arg("retry_after", retry_after)
        }
    }

    #[must_use]
    pub fn with_arg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }

    pub fn status(&self) -> StatusCode {
        self.kind.entry().status
    }

    /// Why, for the log.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    fn detail(&self, template: &str) -> String {
        self.args
            .iter()
            .fold(template.to_owned(), |detail, (name, value)| {
                let value = value
                    .as_str()
                    .map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
                detail.replace(&format!("{{{name}}}"), &value)
            })
    }

    /// The response, save `X-Request-ID`, which every response gets.
    pub(super) fn render(&self, context: &Context<'_>) -> Response<Full<Bytes>> {
        let entry = self.kind.entry();
        let body = Body {
            r#type: format!("{}{}", context.base_url, entry.slug),
            title: entry.title,
            status: entry.status.as_u16(),
            detail: self.detail(entry.detail),
            code: entry.code,
            instance: instance(context.request),
            request_id: context.request_id,
            trace_id: context.trace.to_string(),
            span_id: context.trace.span_id(),
            service: context.service,
            timestamp: context.now.to_string(),
            i18n_key: entry.i18n_key,
            i18n_args: &self.args,
            errors: self
                .violations
                .iter()
                .map(|violation| violation.render(context.development))
                .collect(),
            retry_after: self.retry_after,
        };
        let media_type = problem_type(&context.request.headers);
        let mut response = headers::respond(entry.status, media_type, to_json(&body));
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Language"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        match self.kind {
            Kind::InvalidApiKey => {
                headers.insert(WWW_AUTHENTICATE, context.challenge.clone());
            }
            Kind::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static(router::ALLOW));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// What a Problem says of the request and of this server.
pub(super) struct Context<'r> {
    pub(super) request: &'r Parts,
    pub(super) request_id: &'r str,
    pub(super) trace: &'r TraceContext,
    pub(super) now: Timestamp,
    pub(super) base_url: &'r str,
    pub(super) service: &'r str,
    /// The value of `WWW-Authenticate`.
    pub(super) challenge: &'r HeaderValue,
    pub(super) development: bool,
}

/// The object on the wire, its members in this order.
#[derive(Serialize)]
struct Body<'p> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    request_id: &'p str,
    trace_id: String,
    span_id: String,
    service: &'p str,
    timestamp: String,
    i18n_key: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    i18n_args: &'p Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldViolation<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

/// Writes what is made of strings, numbers and lists only, which can't fail.
pub(super) fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// The request target, path and query, in the ASCII that a URI reference is made of (RFC 3986 section 2.1).
fn instance(request: &Parts) -> Option<String> {
    let target = request.uri.path_and_query()?.as_str();
    let instance = utf8_percent_encode(target, CONTROLS).to_string();
    (instance.len() <= MAX_INSTANCE).then_some(instance)
}

/// What is wrong with one field of the request. A field has one violation: of several the first, in the order
/// of the constructors here.
#[derive(Debug)]
pub struct Violation {
    pub field: &'static str,
    code: &'static str,
    description: String,
    /// Shown in development mode; empty where nothing was received.
    received: Vec<String>,
}

impl Violation {
    fn new(field: &'static str, code: &'static str, description: String) -> Self {
        Self {
            field,
            code,
            description,
            received: Vec::new(),
        }
    }

    pub fn not_allowed(field: &'static str, why: &str) -> Self {
        Self::new(field, "not_allowed", format!("{field} {why}"))
    }

    pub fn required(field: &'static str) -> Self {
        Self::new(field, "required", format!("{field} is required"))
    }

    pub fn duplicate(field: &'static str) -> Self {
        Self::new(field, "duplicate", format!("{field} must be given once"))
    }

    pub fn format(field: &'static str, allowed: &str) -> Self {
        Self::new(field, "format", format!("{field} must be {allowed}"))
    }

    pub fn range(field: &'static str, allowed: &str) -> Self {
        Self::new(field, "range", format!("{field} must be {allowed}"))
    }

    /// With what was received as it.
    #[must_use]
    pub fn with_value(mut self, received: &str) -> Self {
        self.received = vec![received.to_owned()];
        self
    }

    /// With what was received in the header fields called `name`.
    #[must_use]
    pub fn with_header(mut self, headers: &HeaderMap, name: &HeaderName) -> Self {
        let values = headers.get_all(name).iter();
        self.received = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        self
    }

    fn render(&self, development: bool) -> FieldViolation<'_> {
        let value = match self.received.as_slice() {
            _ if !development => None,
            [] => None,
            [one] => Some(json!({ "received": one })),
            many => Some(json!({ "received": many })),
        };
        FieldViolation {
            field: self.field,
            code: self.code,
            description: &self.description,
            value,
        }
    }
}

#[derive(Serialize)]
struct FieldViolation<'p> {
    field: &'static str,
    code: &'static str,
    description: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_agrees_with_itself() {
        let mut codes = Vec::new();
        for kind in [
            Kind::InvalidRequest,
            Kind::InvalidApiKey,
            Kind::TenantNotAllowed,
            Kind::NotFound,
            Kind::MethodNotAllowed,
            Kind::UriTooLong,
            Kind::TooManyRequests,
            Kind::HeadersTooLarge,
            Kind::InternalError,
            Kind::Unavailable,
        ] {
            let entry = kind.entry();
            assert_eq!(
                entry.i18n_key,
                format!("error.{}", entry.slug.replace('-', "_"))
            );
            assert_eq!(
                entry.code / 10,
                3_010_000 + u32::from(entry.status.as_u16())
            );
            assert!(!codes.contains(&entry.code));
            codes.push(entry.code);
        }
    }
}
