//! English.

use super::{Frame, Rule, Told};
use crate::api::problem::Kind;

pub(super) fn problem(kind: Kind) -> Told {
    match kind {
        Kind::InvalidRequest => Told {
            title: "Invalid Request Parameters",
            detail: "The request is not valid in: {fields}.",
            happened: "One or more fields of the request are missing or malformed. Nothing was looked up.",
            why: &[
                "X-Tenant-ID is missing, was sent twice, or has characters other than the visible ASCII ones.",
                "The user id in the path is empty, longer than 256 characters, or badly percent-encoded.",
                "X-Sessile-Now was sent to a server in production mode, which does not let callers set the clock.",
                "The request has no valid Host, two of them, or a Transfer-Encoding.",
            ],
            advice: &[
                "Read `errors`: it lists every field at fault, with a code for programs and a sentence for people.",
                "Percent-encode the user id as one path segment: the user a/b is a%2Fb.",
                "Don't send the same request again: it will fail the same way.",
            ],
        },
        Kind::InvalidApiKey => Told {
            title: "Invalid API Key",
            detail: "The request does not carry exactly one known API key.",
            happened: "The server does not know who asks. For every reason the answer is the same.",
            why: &[
                "The header with the key is missing, or was sent twice.",
                "The key is not one of this server's: perhaps it was typed wrongly, or belongs to another environment.",
                "The key has expired, or was removed in a rotation.",
            ],
            advice: &[
                "Send the key in the header that the API reference names, once and without quotes or blanks.",
                "Ask the operators for a new key: `sessile key new NAME` makes one.",
                "Operators: `sessile doctor` tells which keys have expired, and /metrics counts refusals by reason.",
            ],
        },
        Kind::TenantNotAllowed => Told {
            title: "Tenant Not Allowed",
            detail: "The API key may not be used for this tenant.",
            happened: "The key is known, but it is for other tenants than the one in X-Tenant-ID.",
            why: &[
                "The key was made for certain tenants only, and this one is not among them.",
                "X-Tenant-ID names another tenant than was meant. Upper and lower case matter.",
            ],
            advice: &[
                "Check X-Tenant-ID.",
                "Use the key that belongs to this tenant.",
                "Operators: add the tenant to the key's `tenants` and reload with SIGHUP.",
            ],
        },
        Kind::NotFound => Told {
            title: "Not Found",
            detail: "No operation has this path.",
            happened: "The server has nothing at this path. It does not mean that a user was not found: that is an answer with status 200.",
            why: &[
                "The path is spelt differently. Upper and lower case matter, and so does a slash at the end.",
                "A slash in the user id was not encoded: a/b is two segments, a%2Fb is one.",
                "The server has listeners for the operation and for administration, and this is the other one.",
            ],
            advice: &[
                "Compare the path with the API reference.",
                "Percent-encode the user id.",
                "Try the other listener.",
            ],
        },
        Kind::MethodNotAllowed => Told {
            title: "Method Not Allowed",
            detail: "The method {method} is not allowed here; {allow} are.",
            happened: "The path exists, but takes other methods. The server only answers questions: it changes nothing.",
            why: &[
                "The client sent POST, PUT, DELETE or OPTIONS.",
                "A browser asked for permission first (CORS). This API is for services, not for pages of other origins.",
            ],
            advice: &["Use GET, or HEAD for the status alone."],
        },
        Kind::UriTooLong => Told {
            title: "URI Too Long",
            detail: "The request target is longer than {limit} bytes.",
            happened: "Path and query together are longer than the server reads.",
            why: &[
                "Something was added to the path or the query. The longest user id takes 3,072 bytes, percent-encoded.",
                "The user id was percent-encoded more than once.",
            ],
            advice: &["Leave the query out: it is ignored. Encode the user id once."],
        },
        Kind::TooManyRequests => Told {
            title: "Too Many Requests",
            detail: "The API key has made more requests than its rate allows; try again in {retry_after} s.",
            happened: "The rate that the operators set for this key is passed. Other keys are not affected.",
            why: &[
                "The caller asks more often than was agreed.",
                "Several programs share the key: its rate is for all of them together.",
                "A client repeats requests without a pause.",
            ],
            advice: &[
                "Wait as many seconds as Retry-After says, then send the request again.",
                "Spread the requests out; the allowance comes back evenly.",
                "Operators: raise the key's `max_rate`, or give each program a key of its own.",
            ],
        },
        Kind::HeadersTooLarge => Told {
            title: "Request Header Fields Too Large",
            detail: "The request has more than {limit} header fields, or more than {bytes} bytes of them.",
            happened: "The request carries more header fields, or longer ones, than the server reads.",
            why: &[
                "A proxy on the way, or a browser, added cookies and other fields.",
                "A client repeats fields in a loop.",
            ],
            advice: &["Send only what the API reference names; everything else is ignored."],
        },
        Kind::InternalError => Told {
            title: "Internal Server Error",
            detail: "No answer could be given; the server's log has the cause under this request_id.",
            happened: "The server could not find the answer out. It never guesses: no answer means neither yes nor no.",
            why: &[
                "The data file is missing, damaged, locked for too long, or not readable.",
                "A bug in the server.",
            ],
            advice: &[
                "Decide beforehand what your service does without an answer. For a sensitive step, refuse it.",
                "Try again once, after a pause of a second or more.",
                "Operators: look for the `request_id` in the log, and run `sessile doctor`.",
            ],
        },
        Kind::Unavailable => Told {
            title: "Service Unavailable",
            detail: "The server is busy or about to stop; try again in {retry_after} s.",
            happened: "The server turned the request away before looking at it, so that it stays quick for others.",
            why: &[
                "More requests are under way than `server.max_in_flight` allows.",
                "The server was told to stop, and only finishes what it has begun.",
            ],
            advice: &[
                "Wait as many seconds as Retry-After says, then send the request again.",
                "If it lasts, treat it like a server that can't be reached.",
                "Operators: /readyz tells whether the server is stopping.",
            ],
        },
    }
}

pub(super) fn violation(rule: Rule) -> &'static str {
    match rule {
        Rule::Required => "{field} is required",
        Rule::Once => "{field} must be given once",
        Rule::Host => {
            "{field} must be a host name or address, with a port where it is not the default"
        }
        Rule::NoTransferEncoding => "{field} is not allowed: no request here has a body",
        Rule::TenantId => "{field} must be 1 to 128 visible ASCII characters",
        Rule::UserId => "{field} must be 1 to 256 characters, none of them a control character",
        Rule::PercentEncoding => {
            "{field} must be UTF-8 in percent-encoding, every % followed by two hexadecimal digits"
        }
        Rule::Instant => "{field} must be an RFC 3339 instant such as 2026-11-23T12:00:00.001Z",
        Rule::DevelopmentOnly => "{field} is not allowed in production mode",
    }
}

pub(super) const FRAME: Frame = Frame {
    problems: "Problems",
    lead: "Every error of this server is a Problem (RFC 9457). Its type is the address of one of these pages.",
    status: "Status",
    kind: "Problem",
    code: "Code",
    happened: "What happened",
    why: "Why",
    advice: "What to do",
    example: "An example",
    all: "All Problems",
    reference: "API reference",
    skip: "Skip to the content",
    pages: "Pages",
};
