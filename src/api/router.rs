//! Which operation a method and a target name. Pure.
//!
//! A path's slashes are what they are before its segments are decoded, so `a%2Fb` is one segment. The fixed
//! segments are compared as they came, undecoded and in their own case: `/Internal/…` and `/%69nternal/…` are no
//! routes. So are a trailing slash and a doubled one, save that an empty user id is the operation's to refuse.
//! Dot segments are not special (`%2E%2E` is a user like any other), and `+` is a plus.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::problem::Kind;
use crate::metrics::ROUTES;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'t> {
    /// `/internal/session/sessions/{user_id}/active`, with the user id as it came.
    Active { user_id: &'t str },
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/metrics`
    Metrics,
    /// `/`, which leads to `/docs`.
    Home,
    /// One of the pages that explain this API.
    Page(Page),
}

/// A page that explains this API, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/docs`
    Docs,
    /// `/docs/style.css`
    Style,
    /// `/docs/form.js`
    Script,
    /// `/openapi.json`
    OpenApi,
    /// `/problems/`
    Problems,
    /// `/problems/{slug}`
    Problem(Kind),
}

/// Which routes a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    All,
    /// What other services ask.
    Operation,
    /// What operators and their programs ask.
    Admin,
}

impl Surface {
    fn has(self, route: Route<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Operation => !route.is_beside(),
            Self::Admin => route.is_beside(),
        }
    }
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    NotFound,
    MethodNotAllowed,
}

/// The methods that every route takes.
pub const ALLOW: &str = "GET, HEAD";

impl Route<'_> {
    /// The route's pattern: a name of few values, for logs and metrics.
    pub fn pattern(&self) -> &'static str {
        NAMES[self.number()]
    }

    /// The place of its pattern in [`NAMES`].
    pub fn number(&self) -> usize {
        match self {
            Self::Active { .. } => OPERATION,
            Self::Health => 2,
            Self::Ready => 3,
            Self::Metrics => 4,
            Self::Home => 5,
            Self::Page(page) => match page {
                Page::Docs => 6,
                Page::Style => 7,
                Page::Script => 8,
                Page::OpenApi => 9,
                Page::Problems => 10,
                Page::Problem(_) => 11,
            },
        }
    }

    /// Whether it stands beside the operation: it tells how the server is or what it does, needs no key, and is
    /// answered even while the server is full or about to stop.
    pub fn is_beside(&self) -> bool {
        match self {
            Self::Active { .. } => false,
            Self::Health | Self::Ready | Self::Metrics | Self::Home | Self::Page(_) => true,
        }
    }
}

/// What requests are counted by: the patterns of the routes, and first what stands for none.
pub const NAMES: [&str; 12] = [
    "none",
    "/internal/session/sessions/{user_id}/active",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "/docs",
    "/docs/style.css",
    "/docs/form.js",
    "/openapi.json",
    "/problems/",
    "/problems/{slug}",
];

/// The place of the operation in [`NAMES`].
pub const OPERATION: usize = 1;

const _: () = assert!(NAMES.len() <= ROUTES, "each route has a place of its own");

/// Finds the route among those of `surface`. `path` is the path of the target, `None` where the target has none (the authority form of
/// CONNECT; the asterisk of OPTIONS is none either): such a target names no resource that could be missing, so it
/// is the method that is refused.
pub fn route<'t>(
    surface: Surface,
    method: &Method,
    path: Option<&'t str>,
) -> Result<Route<'t>, NoRoute> {
    let Some(path) = path else {
        let is_taken = matches!(*method, Method::GET | Method::HEAD);
        return Err(if is_taken {
            NoRoute::NotFound
        } else {
            NoRoute::MethodNotAllowed
        });
    };
    // The operation's segments, all but one of them fixed: what stands between them is one segment if it has no slash.
    let user_id = path
        .strip_prefix("/internal/session/sessions/")
        .and_then(|rest| rest.strip_suffix("/active"))
        .filter(|user_id| !user_id.contains('/'));
    let route = match (user_id, path) {
        (Some(user_id), _) => Route::Active { user_id },
        (None, "/healthz") => Route::Health,
        (None, "/readyz") => Route::Ready,
        (None, "/metrics") => Route::Metrics,
        (None, "/") => Route::Home,
        (None, path) => Route::Page(page(path).ok_or(NoRoute::NotFound)?),
    };
    match *method {
        _ if !surface.has(route) => Err(NoRoute::NotFound),
        Method::GET | Method::HEAD => Ok(route),
        _ => Err(NoRoute::MethodNotAllowed),
    }
}

fn page(path: &str) -> Option<Page> {
    Some(match path {
        "/docs" => Page::Docs,
        "/docs/style.css" => Page::Style,
        "/docs/form.js" => Page::Script,
        "/openapi.json" => Page::OpenApi,
        "/problems/" => Page::Problems,
        _ => {
            let slug = path.strip_prefix("/problems/")?;
            let kind = Kind::ALL.iter().find(|kind| kind.entry().slug == slug)?;
            Page::Problem(*kind)
        }
    })
}

/// A segment's percent-encoding is broken, or what it encodes is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEncoding;

/// Decodes one segment (RFC 3986 section 2.1). A `%` without two hexadecimal digits is an error, not itself.
pub fn decode_segment(segment: &str) -> Result<Cow<'_, str>, BadEncoding> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    for (at, _) in segment.match_indices('%') {
        match segment.as_bytes()[at..] {
            [_, high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(BadEncoding),
        }
    }
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| BadEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_segment_by_segment() {
        fn found(path: &str) -> Result<Route<'_>, NoRoute> {
            route(Surface::All, &Method::GET, Some(path))
        }
        for user_id in ["u", "", "..", "%2E%2E", "a%2Fb", "+", "a;b", "%zz"] {
            let path = format!("/internal/session/sessions/{user_id}/active");
            assert_eq!(found(&path), Ok(Route::Active { user_id }));
        }
        assert_eq!(found("/healthz"), Ok(Route::Health));
        assert_eq!(found("/readyz"), Ok(Route::Ready));
        assert_eq!(found("/metrics"), Ok(Route::Metrics));
        assert_eq!(found("/"), Ok(Route::Home));
        assert_eq!(found("/docs"), Ok(Route::Page(Page::Docs)));
        assert_eq!(found("/problems/"), Ok(Route::Page(Page::Problems)));
        let unavailable = Page::Problem(Kind::Unavailable);
        assert_eq!(found("/problems/unavailable"), Ok(Route::Page(unavailable)));
        for path in [
            "",
            "/docs/",
            "/problems",
            "/problems/nonsense",
            "/problems/unavailable/",
            "/problems/%75navailable",
            "/healthz/",
            "//healthz",
            "/internal/session/sessions/u/active/",
            "/internal/session/sessions/u",
            "/internal/session/sessions/active",
            "//internal/session/sessions/u/active",
            "/internal/session/sessions/a/b/active",
            "/internal/session/sessions/u/active/more/and/more",
            "/Internal/session/sessions/u/active",
            "/%69nternal/session/sessions/u/active",
            "/internal/session/sessions/u/%61ctive",
            "/x/../internal/session/sessions/u/active",
        ] {
            assert_eq!(found(path), Err(NoRoute::NotFound), "{path}");
        }
    }

    #[test]
    fn only_a_known_path_can_refuse_a_method() {
        let path = "/internal/session/sessions/u/active";
        assert!(route(Surface::All, &Method::HEAD, Some(path)).is_ok());
        for method in [
            Method::OPTIONS,
            Method::POST,
            Method::TRACE,
            Method::from_bytes(b"get").unwrap(),
        ] {
            assert_eq!(
                route(Surface::All, &method, Some(path)),
                Err(NoRoute::MethodNotAllowed)
            );
            assert_eq!(
                route(Surface::All, &method, Some("/nowhere")),
                Err(NoRoute::NotFound)
            );
        }
        assert_eq!(
            route(Surface::All, &Method::CONNECT, None),
            Err(NoRoute::MethodNotAllowed)
        );
    }

    #[test]
    fn a_surface_knows_nothing_of_the_routes_of_another() {
        let operation = Some("/internal/session/sessions/u/active");
        for (surface, path) in [
            (Surface::Admin, operation),
            (Surface::Operation, Some("/healthz")),
            (Surface::Operation, Some("/metrics")),
            (Surface::Operation, Some("/")),
            (Surface::Operation, Some("/docs")),
            (Surface::Operation, Some("/problems/not-found")),
        ] {
            assert_eq!(route(surface, &Method::GET, path), Err(NoRoute::NotFound));
            assert_eq!(route(surface, &Method::POST, path), Err(NoRoute::NotFound));
        }
        assert!(route(Surface::Operation, &Method::GET, operation).is_ok());
        assert_eq!(
            route(Surface::Admin, &Method::GET, Some("/readyz")),
            Ok(Route::Ready)
        );
    }

    #[test]
    fn a_segment_is_decoded_once_and_strictly() {
        for (segment, text) in [
            ("a%2Fb", "a/b"),
            ("a%252Fb", "a%2Fb"),
            ("%2e%2E", ".."),
            ("+", "+"),
            ("%E5%90%8D", "名"),
            ("名", "名"),
            ("%00", "\0"),
        ] {
            assert_eq!(decode_segment(segment).as_deref(), Ok(text));
        }
        for segment in [
            "%",
            "%2",
            "a%",
            "%zz",
            "%+1",
            "%2g",
            "%%41",
            "%FF",
            "%C0%80",
            "%ED%A0%80",
            "%é1",
        ] {
            assert_eq!(decode_segment(segment), Err(BadEncoding), "{segment}");
        }
    }
}
