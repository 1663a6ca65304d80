//! The pages that explain this API: made once, at the start, from the files beside this one, the catalogue of
//! Problems and what the configuration changes in them.
//!
//! They ask nothing of any other server: the policy of their content (CSP 3) allows their own style sheet, and a
//! script only where there is a form.

mod problems;

use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::problem::Kind;
use super::router::Page as Name;
use super::service::Settings;
use super::words::Language;

const HTML: &str = "text/html; charset=utf-8";

/// What a page may load and who may frame it: as little as it needs.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const POLICY_WITH_FORM: &str = "default-src 'none'; style-src 'self'; img-src data:; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// In production there is no such parameter: it is refused.
const NOW_PARAMETER: &str = r##",
        { "$ref": "#/components/parameters/Now" }"##;

/// One page, ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) content_type: &'static str,
    /// Leaked once, it is copied without a counter of references that all cores would write.
    pub(super) body: Bytes,
    /// A digest of the body.
    pub(super) etag: HeaderValue,
    pub(super) policy: Option<&'static str>,
    pub(super) language: Option<Language>,
    /// Whether it is there in other languages, too.
    pub(super) varies: bool,
}

/// All pages of this server.
#[derive(Debug)]
pub(super) struct Pages {
    docs: Page,
    /// With the form to try it; in development mode only.
    docs_with_form: Option<Page>,
    style: Page,
    script: Page,
    openapi: Page,
    /// Of each language the list, and the page of each kind in the order of [`Kind::ALL`].
    problems: Vec<(Page, Vec<Page>)>,
}

impl Page {
    fn new(content_type: &'static str, body: String) -> Self {
        let digest = Sha256::digest(&body);
        let digits: String = digest[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            content_type,
            etag: HeaderValue::try_from(format!("\"{digits}\""))
                .unwrap_or_else(|_| HeaderValue::from_static("\"\"")), // digits and quotes are what it may hold
            body: Bytes::from_static(body.leak().as_bytes()),
            policy: None,
            language: None,
            varies: false,
        }
    }

    fn html(body: String, policy: &'static str, language: Language) -> Self {
        Self {
            policy: Some(policy),
            language: Some(language),
            ..Self::new(HTML, body)
        }
    }
}

impl Pages {
    pub(super) fn new(settings: &Settings) -> Self {
        let with_form = settings.development.then(|| {
            let html = docs(settings, Some(include_str!("form.html")));
            Page::html(html, POLICY_WITH_FORM, Language::English)
        });
        let problems = |language| {
            let page = |html| Page {
                varies: true,
                ..Page::html(html, POLICY, language)
            };
            let of_kind = |kind: &Kind| page(problems::of(*kind, language, settings));
            let each = Kind::ALL.iter().map(of_kind).collect();
            (page(problems::list(language)), each)
        };
        Self {
            docs: Page::html(docs(settings, None), POLICY, Language::English),
            docs_with_form: with_form,
            style: Page::new(
                "text/css; charset=utf-8",
                include_str!("style.css").to_owned(),
            ),
            script: Page::new(
                "text/javascript; charset=utf-8",
                include_str!("form.js").to_owned(),
            ),
            openapi: Page::new(super::headers::JSON, openapi(settings)),
            problems: Language::ALL.map(problems).into(),
        }
    }

    /// The page of this name. `has_operation`: whether it can be tried where the page is.
    pub(super) fn get(&self, name: Name, has_operation: bool, language: Language) -> Option<&Page> {
        let problems = || {
            let index = Language::ALL.iter().position(|other| *other == language)?;
            self.problems.get(index)
        };
        match name {
            Name::Docs => Some(
                self.docs_with_form
                    .as_ref()
                    .filter(|_| has_operation)
                    .unwrap_or(&self.docs),
            ),
            Name::Style => Some(&self.style),
            Name::Script => Some(&self.script),
            Name::OpenApi => Some(&self.openapi),
            Name::Problems => problems().map(|(list, _)| list),
            Name::Problem(kind) => {
                let index = Kind::ALL.iter().position(|other| *other == kind)?;
                problems()?.1.get(index)
            }
        }
    }
}

fn docs(settings: &Settings, form: Option<&str>) -> String {
    include_str!("docs.html")
        .replace("<!-- form -->\n", form.unwrap_or_default())
        .replace("<!-- problems -->\n", &problems::table(Language::English))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{X-API-Key}", &escaped(&spelt(&settings.key_header)))
        .replace("{service}", &escaped(&settings.service))
}

fn openapi(settings: &Settings) -> String {
    let text = include_str!("openapi.json")
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{X-API-Key}", &spelt(&settings.key_header))
        .replace("{service}", &settings.service)
        .replace("{problems}", &settings.problems_base_url);
    if settings.development {
        text
    } else {
        text.replace(NOW_PARAMETER, "")
    }
}

/// The name as people write it; a header's case means nothing.
fn spelt(name: &HeaderName) -> String {
    if name == "x-api-key" {
        return "X-API-Key".to_owned();
    }
    let mut begins = true;
    let letter = |letter: char| {
        let is_first = std::mem::replace(&mut begins, letter == '-');
        if is_first {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    };
    name.as_str().chars().map(letter).collect()
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::framing::FrameLimits;
    use crate::api::router::{Route, Surface, route};
    use hyper::Method;
    use serde_json::Value;

    fn settings(development: bool) -> Settings {
        Settings {
            development,
            key_header: HeaderName::from_static("x-'key&"),
            service: "a<b&c".to_owned(),
            problems_base_url: "/problems/".to_owned(),
            max_in_flight: 1,
            frame: FrameLimits {
                target_bytes: 6_144,
                fields: 64,
                field_bytes: 16_384,
            },
            stale_after: None,
            workers: 1,
        }
    }

    #[test]
    fn what_the_configuration_says_is_text() {
        let html = docs(&settings(true), None);
        assert!(html.contains("X-&#39;key&amp;") && !html.contains("X-'key&"));
        assert!(!html.contains("a<b"));
        let example = problems::of(Kind::NotFound, Language::English, &settings(true));
        assert!(example.contains("a&lt;b&amp;c") && !example.contains("a<b"));
    }

    #[test]
    fn no_mark_of_a_template_is_left() {
        for development in [false, true] {
            let settings = settings(development);
            let form = development.then_some(include_str!("form.html"));
            for text in [docs(&settings, form), openapi(&settings)] {
                for mark in [
                    "{version}",
                    "{X-API-Key}",
                    "{service}",
                    "{problems}",
                    "<!-- ",
                ] {
                    assert!(!text.contains(mark), "{mark}");
                }
            }
        }
    }

    #[test]
    fn only_development_mode_has_a_clock_to_set() {
        for development in [false, true] {
            let json: Value = serde_json::from_str(&openapi(&settings(development))).unwrap();
            let path = &json["paths"]["/internal/session/sessions/{user_id}/active"];
            let parameters = path["parameters"].as_array().unwrap();
            let has_now = parameters
                .iter()
                .any(|one| one["$ref"] == "#/components/parameters/Now");
            assert_eq!(has_now, development);
        }
    }

    /// One route of each pattern. A route that is new does not compile until it stands here.
    fn routes() -> Vec<Route<'static>> {
        let all = [
            Route::Active { user_id: "u" },
            Route::Health,
            Route::Ready,
            Route::Metrics,
            Route::Home,
            Route::Page(Name::Docs),
            Route::Page(Name::Style),
            Route::Page(Name::Script),
            Route::Page(Name::OpenApi),
            Route::Page(Name::Problems),
            Route::Page(Name::Problem(Kind::NotFound)),
        ];
        for route in all {
            match route {
                Route::Active { .. }
                | Route::Health
                | Route::Ready
                | Route::Metrics
                | Route::Home => {}
                Route::Page(name) => match name {
                    Name::Docs | Name::Style | Name::Script => {}
                    Name::OpenApi | Name::Problems | Name::Problem(_) => {}
                },
            }
        }
        all.into()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let json: Value = serde_json::from_str(&openapi(&settings(true))).unwrap();
        let paths = json["paths"].as_object().unwrap();
        let mut patterns: Vec<&str> = routes().iter().map(Route::pattern).collect();
        patterns.sort_unstable();
        let mut described: Vec<&str> = paths.keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(patterns, described);
        for (path, item) in paths {
            let target = path
                .replace("{user_id}", "u")
                .replace("{slug}", "not-found");
            let methods = [
                "get", "head", "post", "put", "patch", "delete", "options", "trace",
            ];
            for method in methods {
                let name = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
                let found = route(Surface::All, &name, Some(&target));
                assert_eq!(found.is_ok(), item.get(method).is_some(), "{method} {path}");
                assert!(found.is_err() || found.unwrap().pattern() == path, "{path}");
            }
        }
    }

    #[test]
    fn every_kind_of_problem_is_described_and_nothing_else() {
        let json: Value = serde_json::from_str(&openapi(&settings(true))).unwrap();
        let components = &json["components"];
        let entries = || Kind::ALL.iter().map(|kind| kind.entry());
        let members = &components["schemas"]["Problem"]["properties"];
        let slugs = &components["parameters"]["Slug"]["schema"]["enum"];
        let list = |values: Vec<Value>| Value::Array(values);
        assert_eq!(slugs, &list(entries().map(|one| one.slug.into()).collect()));
        assert_eq!(
            members["code"]["enum"],
            list(entries().map(|one| one.code.into()).collect())
        );
        assert_eq!(
            members["i18n_key"]["enum"],
            list(entries().map(|one| one.i18n_key.into()).collect())
        );
        let responses = components["responses"].as_object().unwrap();
        for kind in Kind::ALL {
            let example =
                &responses[&format!("{kind:?}")]["content"][super::super::headers::JSON]["example"];
            assert_eq!(example["title"], Language::English.problem(*kind).title);
            assert_eq!(example["status"], kind.entry().status.as_u16());
            assert_eq!(example["type"], format!("/problems/{}", kind.entry().slug));
        }
    }

    #[test]
    fn every_member_is_explained_to_people() {
        let json: Value = serde_json::from_str(&openapi(&settings(true))).unwrap();
        let html = docs(&settings(true), None);
        for schema in ["ActiveSessionStatus", "Problem", "FieldViolation"] {
            let told = html.split_once(&format!("<h3 id=\"{schema}\">")).unwrap().1;
            let told = told.split_once("</table>").unwrap().0;
            let members = json["components"]["schemas"][schema]["properties"].as_object();
            let members = members.unwrap();
            assert_eq!(told.matches("scope=\"row\"").count(), members.len());
            for (name, _) in members {
                let row = format!("<th scope=\"row\"><code>{name}</code></th>");
                assert!(told.contains(&row), "{schema}.{name}");
            }
        }
        for kind in Kind::ALL {
            let link = format!("href=\"/problems/{}\"", kind.entry().slug);
            assert!(html.contains(&link), "{link}");
        }
    }
}
