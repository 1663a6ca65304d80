//! Every Problem, and the order in which the checks that lead to them are made.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{KEY, Response, Sandbox, Server, question, request};

const KEYED: (&str, &str) = ("X-API-Key", KEY);
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");
const PATH: &str = "/internal/session/sessions/u/active";

fn server(args: &[&str]) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(args);
    (sandbox, server)
}

/// What every Problem must be, whatever its kind; returns its object.
#[track_caller]
fn problem(response: &Response, status: u16, slug: &str, code: u64, title: &str) -> Value {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
    assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.field("vary"), Some("Accept, Accept-Language"));
    assert_eq!(response.field("content-language"), Some("en"));
    let json = response.json();
    assert_eq!(json["type"], format!("/problems/{slug}"));
    assert_eq!(json["title"], title);
    assert_eq!(json["status"], status);
    assert_eq!(json["code"], code);
    assert_eq!(json["service"], "session-service");
    assert_eq!(
        json["i18n_key"],
        format!("error.{}", slug.replace('-', "_"))
    );
    assert_eq!(json["request_id"].as_str(), response.field("x-request-id"));
    let (trace, span) = (
        json["trace_id"].as_str().unwrap(),
        json["span_id"].as_str().unwrap(),
    );
    assert_eq!(
        (trace.len(), span.len(), &trace[..3], &trace[36..52]),
        (55, 16, "00-", span)
    );
    let timestamp = json["timestamp"].as_str().unwrap();
    let age = sessile::time::Timestamp::now().as_millis()
        - sessile::time::Timestamp::parse_rfc3339(timestamp)
            .unwrap()
            .as_millis();
    assert!(
        timestamp.ends_with('Z') && (0..60_000).contains(&age),
        "{timestamp}"
    );
    assert!(
        json["detail"]
            .as_str()
            .is_some_and(|detail| !detail.contains(['{', '}']))
    );
    assert_eq!(json.get("errors").is_some(), status == 400);
    assert_eq!(
        json.get("retry_after").is_some(),
        matches!(status, 429 | 503)
    );
    assert!(
        json.as_object()
            .unwrap()
            .values()
            .all(|value| !value.is_null())
    );
    json
}

#[test]
fn the_catalogue() {
    let (sandbox, server) = server(&[]);
    let ok = |response: &Response| assert_eq!(response.status, 200);
    ok(&server.count("t", "u"));

    let missing = server.ask(&question("u", &[KEYED]));
    problem(
        &missing,
        400,
        "invalid-request",
        30104000,
        "Invalid Request Parameters",
    );
    let unknown = server.ask(&question("u", &[TENANT]));
    problem(
        &unknown,
        401,
        "invalid-api-key",
        30104010,
        "Invalid API Key",
    );
    assert_eq!(
        unknown.field("www-authenticate"),
        Some("ApiKey realm=\"session-service\"")
    );
    let nowhere = server.ask(&request("GET", "/nowhere", &[KEYED, TENANT]));
    problem(&nowhere, 404, "not-found", 30104040, "Not Found");
    for method in [
        "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "get", "BREW",
    ] {
        let method = server.ask(&request(method, PATH, &[KEYED, TENANT]));
        problem(
            &method,
            405,
            "method-not-allowed",
            30104050,
            "Method Not Allowed",
        );
        assert_eq!(method.field("allow"), Some("GET, HEAD"));
    }
    for (method, target) in [("CONNECT", "example.com:443"), ("OPTIONS", "*")] {
        let method = server.ask(&request(method, target, &[KEYED, TENANT]));
        problem(
            &method,
            405,
            "method-not-allowed",
            30104050,
            "Method Not Allowed",
        );
    }
    let long = format!("{PATH}?{}", "x".repeat(6_144 - PATH.len()));
    let long = server.ask(&request("GET", &long, &[KEYED, TENANT]));
    problem(&long, 414, "uri-too-long", 30104140, "URI Too Long");
    let fields: Vec<_> = [KEYED, TENANT]
        .into_iter()
        .chain([("X-Filler", "x"); 62])
        .collect();
    let many = server.ask(&question("u", &fields));
    problem(
        &many,
        431,
        "headers-too-large",
        30104310,
        "Request Header Fields Too Large",
    );

    std::fs::remove_file(sandbox.database()).unwrap();
    let failed = problem(
        &server.count("t", "u"),
        500,
        "internal-error",
        30105000,
        "Internal Server Error",
    );
    assert!(!failed.to_string().contains("sessile.db"), "{failed}");
}

#[test]
fn our_limits_lie_where_they_are_said_to() {
    let (_sandbox, server) = server(&[]);
    let just = format!("{PATH}?{}", "x".repeat(6_144 - PATH.len() - 1));
    assert_eq!(
        server.ask(&request("GET", &just, &[KEYED, TENANT])).status,
        200
    );
    // With Host, these are 64.
    let fields: Vec<_> = [KEYED, TENANT]
        .into_iter()
        .chain([("X-Filler", "x"); 61])
        .collect();
    assert_eq!(server.ask(&question("u", &fields)).status, 200);
    let far = format!("{PATH}?{}", "x".repeat(30_000));
    assert_eq!(
        server.ask(&request("GET", &far, &[KEYED, TENANT])).status,
        414
    );
    let longest_user = "%F0%9F%98%80".repeat(256);
    assert_eq!(
        server
            .ask(&question(&longest_user, &[KEYED, TENANT]))
            .status,
        200
    );
}

#[test]
fn a_scoped_key_is_403() {
    let sandbox = Sandbox::with_file();
    let keys = format!("[[auth.keys]]\nname = \"k\"\nkey = \"{KEY}\"\ntenants = [\"acme\"]\n");
    sandbox.write(
        "sessile.toml",
        &format!("problems.base_url = \"https://example.com/p#\"\n{keys}"),
    );
    let server = Server::start(sandbox.command(&["serve", "--listen", "127.0.0.1:0"]));
    let mut response = server.count("t", "u");
    let swapped = response
        .body
        .replace("https://example.com/p#", "/problems/");
    assert_ne!(swapped, response.body);
    response.body = swapped;
    problem(
        &response,
        403,
        "tenant-not-allowed",
        30104030,
        "Tenant Not Allowed",
    );
}

#[test]
fn every_violation_is_listed_with_its_code() {
    let (_sandbox, server) = server(&[]);
    let long_user = "x".repeat(257);
    let long_tenant = "x".repeat(129);
    let now = ("X-Sessile-Now", "2026-11-23T12:00:00Z");
    for (user, fields, wanted) in [
        ("u", vec![KEYED], vec!["X-Tenant-ID:required"]),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", "")],
            vec!["X-Tenant-ID:required"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", ""), ("X-Tenant-ID", "")],
            vec!["X-Tenant-ID:required"],
        ),
        (
            "u",
            vec![KEYED, TENANT, TENANT],
            vec!["X-Tenant-ID:duplicate"],
        ),
        (
            "u",
            vec![KEYED, TENANT, ("x-tenant-id", "")],
            vec!["X-Tenant-ID:duplicate"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", "a b")],
            vec!["X-Tenant-ID:format"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", "a, b")],
            vec!["X-Tenant-ID:format"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", "é")],
            vec!["X-Tenant-ID:format"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", "a\tb")],
            vec!["X-Tenant-ID:format"],
        ),
        (
            "u",
            vec![KEYED, ("X-Tenant-ID", &long_tenant)],
            vec!["X-Tenant-ID:range"],
        ),
        ("", vec![KEYED, TENANT], vec!["user_id:required"]),
        ("%", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("%4", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("%zz", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("%FF", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("%C0%AF", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("a%00b", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("a%7Fb", vec![KEYED, TENANT], vec!["user_id:format"]),
        ("a%C2%85b", vec![KEYED, TENANT], vec!["user_id:format"]),
        (&long_user, vec![KEYED, TENANT], vec!["user_id:range"]),
        (
            "",
            vec![KEYED],
            vec!["X-Tenant-ID:required", "user_id:required"],
        ),
        (
            "u",
            vec![KEYED, TENANT, now],
            vec!["X-Sessile-Now:not_allowed"],
        ),
        (
            "u",
            vec![KEYED, TENANT, now, now],
            vec!["X-Sessile-Now:not_allowed"],
        ),
        (
            "%",
            vec![KEYED, now],
            vec![
                "X-Tenant-ID:required",
                "user_id:format",
                "X-Sessile-Now:not_allowed",
            ],
        ),
    ] {
        let response = server.ask(&question(user, &fields));
        problem(
            &response,
            400,
            "invalid-request",
            30104000,
            "Invalid Request Parameters",
        );
        assert_eq!(response.violations(), wanted, "{user} {fields:?}");
        let json = response.json();
        assert!(
            json["errors"]
                .as_array()
                .unwrap()
                .iter()
                .all(|error| error.get("value").is_none()),
            "{json}"
        );
        let fields: Vec<&str> = wanted
            .iter()
            .map(|violation| violation.split(':').next().unwrap())
            .collect();
        assert_eq!(json["i18n_args"], json!({ "fields": fields.join(", ") }));
    }
}

#[test]
fn development_mode_shows_what_was_received() {
    let (_sandbox, server) = server(&["--mode", "development"]);
    for (user, fields, wanted) in [
        ("u", vec![KEYED], json!([["X-Tenant-ID", "required", null]])),
        (
            "%zz",
            vec![KEYED, ("X-Tenant-ID", "a b")],
            json!([
                ["X-Tenant-ID", "format", {"received": "a b"}],
                ["user_id", "format", {"received": "%zz"}],
            ]),
        ),
        (
            "u",
            vec![KEYED, TENANT, ("X-Tenant-ID", "v")],
            json!([["X-Tenant-ID", "duplicate", {"received": ["t", "v"]}]]),
        ),
        (
            "u",
            vec![KEYED, TENANT, ("X-Sessile-Now", "now")],
            json!([["X-Sessile-Now", "format", {"received": "now"}]]),
        ),
        (
            "u",
            vec![KEYED, TENANT, ("X-Sessile-Now", "")],
            json!([["X-Sessile-Now", "format", {"received": ""}]]),
        ),
        (
            "u",
            vec![
                KEYED,
                TENANT,
                ("X-Sessile-Now", "a"),
                ("X-Sessile-Now", "b"),
            ],
            json!([["X-Sessile-Now", "duplicate", {"received": ["a", "b"]}]]),
        ),
    ] {
        let response = server.ask(&question(user, &fields));
        problem(
            &response,
            400,
            "invalid-request",
            30104000,
            "Invalid Request Parameters",
        );
        let errors = response.json()["errors"].as_array().unwrap().clone();
        let found: Vec<Value> = errors
            .iter()
            .map(|error| {
                json!([
                    error["field"],
                    error["code"],
                    error.get("value").unwrap_or(&Value::Null)
                ])
            })
            .collect();
        assert_eq!(Value::from(found), wanted);
    }
}

#[test]
fn the_frame_is_strict() {
    let (_sandbox, server) = server(&[]);
    let rest = format!("X-API-Key: {KEY}\r\nX-Tenant-ID: t\r\n");
    for (head, wanted) in [
        (format!("GET {PATH} HTTP/1.1\r\n{rest}"), "Host:required"),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: a\r\nHost: a\r\n{rest}"),
            "Host:duplicate",
        ),
        (
            format!("GET {PATH} HTTP/1.0\r\nHost: a\r\nHost: b\r\n{rest}"),
            "Host:duplicate",
        ),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: a b\r\n{rest}"),
            "Host:format",
        ),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: user@a\r\n{rest}"),
            "Host:format",
        ),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: a:b\r\n{rest}"),
            "Host:format",
        ),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: http://a/\r\n{rest}"),
            "Host:format",
        ),
        (
            format!("GET http://user@a{PATH} HTTP/1.1\r\nHost: a\r\n{rest}"),
            "Host:format",
        ),
        (
            format!("GET http://a{PATH} HTTP/1.1\r\nHost: a\r\nHost: a\r\n{rest}"),
            "Host:duplicate",
        ),
        (
            format!("GET {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{rest}"),
            "Transfer-Encoding:not_allowed",
        ),
        (
            format!(
                "GET {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n{rest}"
            ),
            "Transfer-Encoding:not_allowed",
        ),
        (format!("GET /nowhere HTTP/1.1\r\n{rest}"), "Host:required"),
    ] {
        let response = server.ask(format!("{head}\r\n").as_bytes());
        problem(
            &response,
            400,
            "invalid-request",
            30104000,
            "Invalid Request Parameters",
        );
        assert_eq!(response.violations(), [wanted], "{head}");
        let closes = head.contains("Transfer-Encoding");
        assert_eq!(
            response.field("connection") == Some("close"),
            closes,
            "{response:?}"
        );
    }
    let both =
        server.ask(format!("GET {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    assert_eq!(
        both.violations(),
        ["Host:required", "Transfer-Encoding:not_allowed"]
    );
}

#[test]
fn development_mode_shows_the_frame_that_was_received() {
    let (_sandbox, server) = server(&["--mode", "development"]);
    for (fields, wanted) in [
        ("", json!(null)),
        ("Host: a b\r\n", json!({"received": "a b"})),
        ("Host: a\r\nHost: b\r\n", json!({"received": ["a", "b"]})),
        (
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            json!({"received": "chunked"}),
        ),
    ] {
        let response = server.ask(format!("GET {PATH} HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert_eq!(response.status, 400);
        let found = response.json()["errors"][0]
            .get("value")
            .cloned()
            .unwrap_or_default();
        assert_eq!(found, wanted, "{fields}");
    }
}

#[test]
fn what_hyper_refuses_is_refused() {
    let (_sandbox, server) = server(&[]);
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-\x01: b\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        assert_eq!(server.ask(request.as_bytes()).status, 400, "{request:?}");
    }
    assert_eq!(server.count("t", "u").status, 200);
}

/// Each request fails from some check on, and the first of them answers.
#[test]
fn checks_run_in_order() {
    let (sandbox, server) = server(&[]);
    std::fs::remove_file(sandbox.database()).unwrap();
    let long = format!("?{}", "x".repeat(6_144));
    let filler = vec![("X-Filler", "x"); 65];
    let key = ("X-API-Key", "wrong");
    let status = |method: &str, target: &str, fields: &[(&str, &str)]| {
        server.ask(&request(method, target, fields)).status
    };
    let no_host = format!(
        "POST /nowhere{long} HTTP/1.1\r\n{}\r\n",
        "X-Filler: x\r\n".repeat(65)
    );
    assert_eq!(server.ask(no_host.as_bytes()).status, 400, "framing first");
    assert_eq!(status("POST", &format!("/nowhere{long}"), &filler), 414);
    assert_eq!(status("POST", "/nowhere", &filler), 431);
    assert_eq!(status("POST", "/nowhere", &[key]), 404, "then the route");
    assert_eq!(
        status("POST", "/internal/session/sessions//active", &[key]),
        405,
        "then the method"
    );
    assert_eq!(
        status("GET", "/internal/session/sessions//active", &[key]),
        401,
        "then the key"
    );
    assert_eq!(
        status("GET", "/internal/session/sessions//active", &[KEYED]),
        400,
        "then the parameters"
    );
    assert_eq!(status("GET", PATH, &[KEYED, TENANT]), 500, "then the store");
}

#[test]
fn two_keys_are_none() {
    let (_sandbox, server) = server(&[]);
    let almost = &KEY[..KEY.len() - 1];
    for keys in [
        vec![],
        vec![""],
        vec!["wrong"],
        vec![almost],
        vec![KEY, KEY],
        vec![KEY, "wrong"],
        vec!["wrong", KEY],
    ] {
        let mut fields: Vec<_> = keys.iter().map(|key| ("X-API-Key", *key)).collect();
        fields.push(TENANT);
        let response = server.ask(&question("u", &fields));
        let json = problem(
            &response,
            401,
            "invalid-api-key",
            30104010,
            "Invalid API Key",
        );
        assert_eq!(
            json["detail"],
            "The request does not carry exactly one known API key."
        );
    }
}

#[test]
fn the_media_type_is_negotiated() {
    let (_sandbox, server) = server(&[]);
    for (accept, wanted) in [
        ("application/problem+json", "application/problem+json"),
        (
            "application/problem+json;q=0.5, application/json;q=0.4",
            "application/problem+json",
        ),
        (
            "application/json, application/problem+json",
            "application/json",
        ),
        ("application/problem+json;q=0", "application/json"),
        ("*/*", "application/json"),
    ] {
        let response = server.ask(&question("u", &[TENANT, ("Accept", accept)]));
        assert_eq!(
            (response.status, response.field("content-type")),
            (401, Some(wanted)),
            "{accept}"
        );
        response.json();
    }
    let fine = server.ask(&question(
        "u",
        &[KEYED, TENANT, ("Accept", "application/problem+json")],
    ));
    assert_eq!(
        (fine.status, fine.field("content-type")),
        (200, Some("application/json"))
    );
}

#[test]
fn the_instance_is_the_target_in_ascii() {
    let (_sandbox, server) = server(&[]);
    let instance = |target: &str| {
        server
            .ask(&request("GET", target, &[]))
            .json()
            .get("instance")
            .cloned()
    };
    assert_eq!(instance("/x?a=%zz&b=c").unwrap(), "/x?a=%zz&b=c");
    assert_eq!(instance("/名?名").unwrap(), "/%E5%90%8D?%E5%90%8D");
    assert_eq!(instance("http://example.com/x?y").unwrap(), "/x?y");
    let most = format!("/{}", "x".repeat(2_047));
    assert_eq!(instance(&most).unwrap(), most);
    assert_eq!(instance(&format!("{most}x")), None);
    assert_eq!(
        instance(&format!("/{}", "名".repeat(700))),
        None,
        "it is the encoded length that counts"
    );
}

#[test]
fn ids_are_the_callers_where_they_are_valid() {
    let (_sandbox, server) = server(&[]);
    let with = |fields: &[(&str, &str)]| server.ask(&question("u", &[fields, &[TENANT]].concat()));
    let id = |fields: &[(&str, &str)]| with(fields).field("x-request-id").unwrap().to_owned();
    assert_eq!(id(&[("X-Request-ID", "req-1_2.3")]), "req-1_2.3");
    assert_eq!(
        server
            .ask(&question("u", &[KEYED, TENANT, ("X-Request-ID", "kept")]))
            .field("x-request-id"),
        Some("kept")
    );
    for replaced in [
        vec![],
        vec![("X-Request-ID", "a b")],
        vec![("X-Request-ID", "a"), ("X-Request-ID", "a")],
    ] {
        let id = id(&replaced);
        let uuid = id.strip_prefix("req_").unwrap();
        assert_eq!((uuid.len(), uuid.matches('-').count()), (36, 4), "{id}");
    }
    let trace = |value: &str| {
        with(&[("traceparent", value)]).json()["trace_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let parent = "0af7651916cd43dd8448eb211c80319c";
    let sampled = trace(&format!("00-{parent}-b7ad6b7169203331-03"));
    assert!(
        sampled.starts_with(&format!("00-{parent}-")) && sampled.ends_with("-01"),
        "{sampled}"
    );
    assert!(
        !sampled.contains("b7ad6b7169203331"),
        "the span is the server's own"
    );
    let invalid = trace("00-00000000000000000000000000000000-b7ad6b7169203331-01");
    assert!(
        !invalid.contains(&"0".repeat(32)) && invalid.ends_with("-00"),
        "{invalid}"
    );
    let twice = with(&[("traceparent", &sampled), ("traceparent", &sampled)]).json();
    assert!(!twice["trace_id"].as_str().unwrap().contains(parent));
}

#[test]
fn a_problem_looks_like_this() {
    let (_sandbox, server) = server(&["--mode", "development"]);
    let fields = [
        KEYED,
        ("X-Request-ID", "req-1"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    let response = server.ask(&question("%zz", &fields));
    let pretty = serde_json::from_str::<serde_json::Value>(&response.body).unwrap();
    assert_eq!(pretty["request_id"], "req-1");
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{16}-01", "[span]-01");
    settings.add_filter(r#""span_id":"[0-9a-f]{16}""#, r#""span_id":"[span]""#);
    settings.add_filter(r#""timestamp":"[^"]+""#, r#""timestamp":"[now]""#);
    settings.bind(|| insta::assert_snapshot!(response.body.replace(",\"", ",\n\"")));
}

#[test]
fn a_failure_is_logged_once_with_its_cause_and_id() {
    let sandbox = Sandbox::with_file();
    let mut command =
        sandbox.command(&["serve", "--listen", "127.0.0.1:0", "--log-level", "debug"]);
    command.env("INTERNAL_API_KEY", KEY).stderr(Stdio::piped());
    let server = Server::start(command);
    server.ask(&question(
        "the-user",
        &[KEYED, TENANT, ("X-Request-ID", "fine")],
    ));
    std::fs::remove_file(sandbox.database()).unwrap();
    server.ask(&question(
        "the-user",
        &[KEYED, TENANT, ("X-Request-ID", "failing")],
    ));
    server.signal("-TERM");
    let log = server.ended().stderr;
    let lines: Vec<Value> = BufReader::new(log.as_bytes())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let of = |id: &str| {
        lines
            .iter()
            .filter(|line| line["request.id"] == id)
            .collect::<Vec<_>>()
    };
    let [fine] = of("fine")[..] else {
        panic!("{log}")
    };
    assert_eq!(
        (&fine["level"], &fine["http.status"]),
        (&json!("DEBUG"), &json!(200))
    );
    assert_eq!(
        fine["http.route"],
        "/internal/session/sessions/{user_id}/active"
    );
    assert_eq!(fine["key.name"], "INTERNAL_API_KEY");
    let [error, line] = of("failing")[..] else {
        panic!("{log}")
    };
    assert_eq!(error["level"], "ERROR");
    assert!(
        error["cause"]
            .as_str()
            .unwrap()
            .contains("there is no such file"),
        "{error}"
    );
    assert_eq!(
        (&line["level"], &line["http.status"]),
        (&json!("DEBUG"), &json!(500))
    );
    assert_eq!(error["trace.id"], line["trace.id"]);
    assert!(!log.contains(KEY) && !log.contains("the-user"), "{log}");
}
