//! The pages for people: `/`, `/docs` and `/problems/…`.

use crate::support::{Response, Sandbox, Server, request};

const SLUGS: [&str; 10] = [
    "invalid-request",
    "invalid-api-key",
    "tenant-not-allowed",
    "not-found",
    "method-not-allowed",
    "uri-too-long",
    "too-many-requests",
    "headers-too-large",
    "internal-error",
    "unavailable",
];

fn server(args: &[&str]) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(args);
    (sandbox, server)
}

fn get(server: &Server, target: &str, fields: &[(&str, &str)]) -> Response {
    server.ask(&request("GET", target, fields))
}

/// What every page must be; returns its HTML.
#[track_caller]
fn html(response: &Response, language: &str) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        response.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(response.field("content-language"), Some(language));
    assert_eq!(response.field("cache-control"), Some("no-cache"));
    assert_eq!(response.field("referrer-policy"), Some("no-referrer"));
    let policy = response.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    for nothing in ["form-action", "base-uri", "frame-ancestors"] {
        assert!(policy.contains(&format!("{nothing} 'none'")), "{policy}");
    }
    let html = &response.body;
    assert!(html.starts_with(&format!("<!doctype html>\n<html lang=\"{language}\">\n")));
    // The policy would refuse these, and a browser would complain.
    for refused in [
        " style=",
        "<style",
        " onclick=",
        "http://www",
        "https://",
        "<script>",
    ] {
        assert!(!html.contains(refused), "{refused}");
    }
    html.clone()
}

#[test]
fn every_problem_has_a_page_in_both_languages() {
    let (_sandbox, server) = server(&[]);
    for (language, heading) in [("en", "What to do"), ("zh-CN", "如何处理")] {
        let fields = [("Accept-Language", language)];
        let list = html(&get(&server, "/problems/", &fields), language);
        for slug in SLUGS {
            let target = format!("/problems/{slug}");
            assert!(list.contains(&format!("href=\"{target}\"")), "{slug}");
            let response = get(&server, &target, &fields);
            assert_eq!(response.field("vary"), Some("Accept-Language"));
            let page = html(&response, language);
            assert!(page.contains(heading), "{page}");
            let example = page.split_once("<pre tabindex=\"0\"><code>").unwrap().1;
            let example = example.split_once("</code>").unwrap().0;
            let example = example.replace("&quot;", "\"").replace("&#39;", "'");
            let example: serde_json::Value = serde_json::from_str(&example).unwrap();
            assert_eq!(example["type"], target);
            let title = example["title"].as_str().unwrap();
            assert!(page.contains(&format!("<h1>{title}</h1>")), "{page}");
            let detail = example["detail"].as_str().unwrap();
            assert!(
                !detail.contains(['{', '}']) && !detail.contains("null"),
                "{detail}"
            );
        }
    }
}

#[test]
fn a_type_leads_to_its_page() {
    let (_sandbox, server) = server(&[]);
    let problem = get(&server, "/nowhere", &[]).json();
    let page = get(&server, problem["type"].as_str().unwrap(), &[]);
    assert!(html(&page, "en").contains(problem["title"].as_str().unwrap()));
}

#[test]
fn what_is_no_page_is_a_problem() {
    let (_sandbox, server) = server(&[]);
    for target in [
        "/problems",
        "/problems/nonsense",
        "/problems/not-found/",
        "/problems/%6Eot-found",
        "/docs/",
        "/docs/other.css",
        "/favicon.ico",
    ] {
        let response = get(&server, target, &[]);
        assert_eq!(
            (response.status, &response.json()["code"]),
            (404, &30104040.into())
        );
    }
    for target in [
        "/",
        "/docs",
        "/problems/",
        "/problems/not-found",
        "/openapi.json",
    ] {
        let response = server.ask(&request("POST", target, &[]));
        assert_eq!(
            (response.status, response.field("allow")),
            (405, Some("GET, HEAD"))
        );
    }
}

#[test]
fn the_root_leads_to_the_reference() {
    let (_sandbox, server) = server(&[]);
    let response = get(&server, "/", &[]);
    assert_eq!(
        (response.status, response.field("location")),
        (302, Some("/docs"))
    );
    assert!(html(&get(&server, "/docs", &[]), "en").contains("<h1>"));
}

#[test]
fn the_form_is_for_development_only() {
    let (_sandbox, production) = server(&[]);
    let response = get(&production, "/docs", &[]);
    assert!(
        !response
            .field("content-security-policy")
            .unwrap()
            .contains("script")
    );
    let page = html(&response, "en");
    assert!(!page.contains("<form") && !page.contains("<script"));

    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "auth.header = \"X-Internal-Key\"\n");
    let development = sandbox.serve(&["--mode", "development"]);
    let response = get(&development, "/docs", &[]);
    assert!(
        response
            .field("content-security-policy")
            .unwrap()
            .contains("script-src 'self'")
    );
    let page = html(&response, "en");
    assert!(page.contains("<form") && page.contains("data-key-header=\"X-Internal-Key\""));
    assert!(!page.contains("X-API-Key"));
}

/// On an administrators' listener there is nothing that the form could ask.
#[test]
fn the_form_is_where_the_operation_is() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "server.admin_listen = \"127.0.0.1:0\"\n");
    let mut server = sandbox.serve(&["--mode", "development"]);
    assert_eq!(get(&server, "/docs", &[]).status, 404);
    let line = server.read_line();
    let address = line.strip_prefix("admin listening on http://").unwrap();
    address.clone_into(&mut server.address);
    let page = html(&get(&server, "/docs", &[]), "en");
    assert!(!page.contains("<form"));
}

#[test]
fn a_page_is_sent_once() {
    let (_sandbox, server) = server(&[]);
    for target in [
        "/docs",
        "/docs/style.css",
        "/docs/form.js",
        "/openapi.json",
        "/problems/",
    ] {
        let whole = get(&server, target, &[]);
        let etag = whole.field("etag").unwrap();
        let weak = format!("\"other\", W/{etag}");
        for known in [etag, &weak, "*"] {
            let again = get(&server, target, &[("If-None-Match", known)]);
            assert_eq!(
                (again.status, again.body.as_str()),
                (304, ""),
                "{target} {known}"
            );
            assert_eq!(again.field("etag"), Some(etag));
        }
        for unknown in ["", "\"other\"", &etag[1..], &format!("{etag}x")] {
            let again = get(&server, target, &[("If-None-Match", unknown)]);
            assert_eq!(
                (again.status, &again.body),
                (200, &whole.body),
                "{target} {unknown}"
            );
        }
        let mut connection = server.connect();
        let head = connection.ask(&request("HEAD", target, &[]));
        assert_eq!(
            head.field("content-length"),
            Some(&*whole.body.len().to_string())
        );
        let head = connection.ask(&request("HEAD", target, &[("If-None-Match", "*")]));
        assert_eq!((head.status, head.field("content-length")), (304, None));
        assert_eq!(
            connection.ask(&request("GET", target, &[])).body,
            whole.body
        );
    }
    let chinese = get(&server, "/problems/", &[("Accept-Language", "zh")]);
    let english = get(&server, "/problems/", &[]);
    assert_ne!(chinese.field("etag"), english.field("etag"));
}
