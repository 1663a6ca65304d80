//! The operation over a real socket and a real file: its parameters, its answers, and what HTTP asks of it.

use crate::support::{Connection, KEY, Sandbox, Server, encode, question, request};

const ALIVE: &str = r#"{"tenant_id":"t","id":"s1","user_id":"u","expires_in":"1h"}"#;

/// A server over a file in which user `u` of tenant `t` has one session.
fn server(args: &[&str]) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.import(ALIVE);
    let server = sandbox.serve(args);
    (sandbox, server)
}

const KEYED: (&str, &str) = ("X-API-Key", KEY);
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");

#[test]
fn the_answer_is_two_fields_and_six_headers() {
    let (_sandbox, server) = server(&[]);
    let response = server.count("t", "u");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, r#"{"active":true,"session_count":1}"#);
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
    assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.field("content-length"), Some("33"));
    assert!(response.field("x-request-id").unwrap().starts_with("req_"));
    assert!(response.field("date").is_some());
    assert_eq!(response.fields.len(), 6, "{response:?}");

    let never_seen = server.count("nobody", "nobody");
    assert_eq!(
        (never_seen.status, never_seen.body.as_str()),
        (200, r#"{"active":false,"session_count":0}"#)
    );
}

#[test]
fn head_answers_as_get_without_a_body() {
    let (_sandbox, server) = server(&[]);
    let mut connection = server.connect();
    let mut head = question("u", &[KEYED, TENANT]);
    head.splice(..3, *b"HEAD");
    let response = connection.ask(&head);
    assert_eq!(
        (response.status, response.field("content-length")),
        (200, Some("33"))
    );
    let mut missing = question("u", &[KEYED]);
    missing.splice(..3, *b"HEAD");
    assert_eq!(connection.ask(&missing).status, 400);
    assert_eq!(
        connection.ask(&question("u", &[KEYED, TENANT])).status,
        200,
        "the connection goes on"
    );
}

#[test]
fn the_user_is_one_decoded_segment() {
    let sandbox = Sandbox::with_file();
    let users = [
        "a/b",
        "a%2Fb",
        "..",
        ".",
        "%2e%2e",
        "100%",
        "O'Brien",
        "user with space",
        "名字",
        "😀",
        "e\u{301}",
        "\u{e9}",
        "user",
        "USER",
        "semi;colon",
        "q?u=1",
        "hash#tag",
        "plus+sign",
        "quote\"s",
        "back\\slash",
        "0",
        "-1",
        "null",
    ];
    let long = "名".repeat(256);
    let mut sessions = String::new();
    for (number, user) in users.iter().copied().chain([long.as_str()]).enumerate() {
        // The first user has one session, the second two, and so on: no answer can be another's.
        for session in 0..=number {
            let id = format!("{number}-{session}");
            let line = serde_json::json!({"tenant_id": "t", "id": id, "user_id": user, "expires_in": "1h"});
            sessions.push_str(&format!("{line}\n"));
        }
    }
    sandbox.import(&sessions);
    let server = sandbox.serve(&[]);
    let mut connection = server.connect();
    let mut counted = |segment: &str| {
        connection.ask(&question(segment, &[KEYED, TENANT])).json()["session_count"].clone()
    };
    for (number, user) in users.iter().copied().chain([long.as_str()]).enumerate() {
        assert_eq!(counted(&encode(user)), number + 1, "{user}");
    }
    assert_eq!(counted(".."), 3, "dot segments are not special");
    assert_eq!(counted("plus+sign"), 18, "a plus is a plus");
    assert_eq!(counted("名字"), 9, "UTF-8 that is not encoded");
    assert_eq!(counted("a%2fb"), 1, "either case of a digit");
}

#[test]
fn a_tenant_sees_its_own_rows_only() {
    let sandbox = Sandbox::with_file();
    sandbox.import(concat!(
        r#"{"tenant_id":"acme","id":"s","user_id":"u","expires_in":"1h"}"#,
        "\n",
        r#"{"tenant_id":"Acme","id":"s","user_id":"u","expires_in":"1h"}"#,
        "\n",
        r#"{"tenant_id":"Acme","id":"s2","user_id":"u","expires_in":"1h"}"#,
    ));
    let server = sandbox.serve(&[]);
    for (tenant, count) in [
        ("acme", 1),
        ("Acme", 2),
        ("ACME", 0),
        ("acm", 0),
        ("acme*", 0),
    ] {
        assert_eq!(
            server.count(tenant, "u").json()["session_count"],
            count,
            "{tenant}"
        );
    }
}

#[test]
fn a_commit_of_any_process_is_in_the_next_answer() {
    let (sandbox, server) = server(&[]);
    let mut connection = server.connect();
    let mut count =
        || connection.ask(&question("u", &[KEYED, TENANT])).json()["session_count"].as_u64();
    assert_eq!(count(), Some(1));
    let insert = |id: &str| {
        format!(
            "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at) VALUES ('t', '{id}', 'u', 0, 9999999999999)"
        )
    };
    for number in 2..50 {
        sandbox
            .sqlite()
            .execute(&insert(&format!("new {number}")), [])
            .unwrap();
        assert_eq!(count(), Some(number));
    }
    let connection = sandbox.sqlite();
    connection
        .execute_batch("BEGIN IMMEDIATE; DELETE FROM session;")
        .unwrap();
    assert_eq!(
        count(),
        Some(49),
        "what is not committed is not seen, and holds nobody up"
    );
    connection.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), Some(0));
    drop(connection);
    if sandbox.sqlite3(&insert("by the stock sqlite3")).is_some() {
        assert_eq!(count(), Some(1));
        sandbox.sqlite3("UPDATE session SET revoked_at = 1");
        assert_eq!(count(), Some(0));
    }
}

#[test]
fn the_clock_can_be_pinned_in_development_mode() {
    let sandbox = Sandbox::with_file();
    sandbox.import(r#"{"tenant_id":"t","id":"s","user_id":"u","created_at":"2026-11-23T11:00:00Z","expires_at":"2026-11-23T12:00:00Z"}"#);
    let server = sandbox.serve(&["--mode", "development"]);
    for (now, active) in [
        ("2026-11-23T11:59:59.999Z", true),
        ("2026-11-23T12:00:00Z", false),
        ("2026-11-23T12:59:59.999+01:00", true),
        ("2020-01-01T00:00:00Z", true),
    ] {
        let response = server.ask(&question("u", &[KEYED, TENANT, ("X-Sessile-Now", now)]));
        assert_eq!(response.json()["active"], active, "{now}");
    }
    assert_eq!(
        server.count("t", "u").json()["active"],
        sessile::time::Timestamp::now().as_millis() < 1_795_435_200_000
    );
}

#[test]
fn what_does_not_matter_does_not_matter() {
    let (_sandbox, server) = server(&[]);
    let ask = |segment: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = [KEYED, TENANT].iter().chain(fields).copied().collect();
        server.ask(&question(segment, &fields)).body
    };
    let plain = ask("u", &[]);
    assert_eq!(ask("u", &[("Authorization", "Bearer nonsense")]), plain);
    assert_eq!(ask("u", &[("Accept", "text/html;q=0")]), plain);
    assert_eq!(ask("u", &[("Accept-Language", "xx")]), plain);
    assert_eq!(ask("u", &[("traceparent", "nonsense")]), plain);
    let query = request(
        "GET",
        "/internal/session/sessions/u/active?a=%zz&user_id=x",
        &[KEYED, TENANT],
    );
    assert_eq!(server.ask(&query).body, plain);
    let lower = b"GET /internal/session/sessions/u/active HTTP/1.1\r\nhost:x\r\nx-api-key:  a-key-for-tests-of-32-characters \r\nX-TENANT-ID:t\r\n\r\n";
    assert_eq!(server.ask(lower).body, plain);
}

#[test]
fn a_body_is_answered_as_if_absent_and_the_connection_closes() {
    let (_sandbox, server) = server(&[]);
    let mut connection = server.connect();
    connection.send(&question("u", &[KEYED, TENANT, ("Content-Length", "5")]));
    let response = connection.receive(false);
    assert_eq!(
        (response.status, response.field("connection")),
        (200, Some("close"))
    );
    assert!(connection.is_closed());

    let mut connection = server.connect();
    let empty = question("u", &[KEYED, TENANT, ("Content-Length", "0")]);
    assert_eq!(connection.ask(&empty).field("connection"), None);
    assert_eq!(connection.ask(&empty).status, 200);
}

#[test]
fn the_host_may_come_in_several_forms() {
    let (_sandbox, server) = server(&[]);
    let fields = format!("X-API-Key: {KEY}\r\nX-Tenant-ID: t\r\n\r\n");
    let path = "/internal/session/sessions/u/active";
    for head in [
        format!("GET {path} HTTP/1.1\r\nHost: example.com:8080\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: [::1]:80\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost:\r\n"),
        format!("GET {path} HTTP/1.0\r\n"),
        format!("GET http://example.com{path} HTTP/1.1\r\n"),
        format!("GET http://example.com{path} HTTP/1.1\r\nHost: other.example\r\n"),
    ] {
        let response = server.ask(format!("{head}{fields}").as_bytes());
        assert_eq!(response.status, 200, "{head}");
    }
}

#[test]
fn a_connection_carries_many_requests_and_pipelined_ones() {
    let (_sandbox, server) = server(&[]);
    let mut connection = server.connect();
    let one = question("u", &[KEYED, TENANT]);
    let three = one.repeat(3);
    connection.send(&three);
    for _ in 0..3 {
        assert_eq!(
            connection.receive(false).body,
            r#"{"active":true,"session_count":1}"#
        );
    }
    assert_eq!(connection.ask(&question("u", &[])).status, 401);
    assert_eq!(connection.ask(&one).status, 200);
}

#[test]
fn a_caller_may_close_its_side_once_it_has_asked() {
    let (_sandbox, server) = server(&[]);
    for _ in 0..50 {
        let stream = std::net::TcpStream::connect(&server.address).unwrap();
        let mut connection = Connection::over(stream.try_clone().unwrap());
        connection.send(&question("u", &[KEYED, TENANT]));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(connection.receive(false).status, 200);
        assert!(connection.is_closed());
    }
}

#[test]
fn health_and_readiness_need_no_key() {
    let (_sandbox, server) = server(&[]);
    let health = server.ask(&request("GET", "/healthz", &[]));
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    let ready = server.ask(&request("GET", "/readyz", &[]));
    assert_eq!(ready.status, 200);
    // Whether the first check in the background is done by now is not said here, nor how old the file is.
    let (checks, fresh) = ready.body.split_once("written ").unwrap();
    let (age, end) = fresh.split_once(" ago").unwrap();
    assert!(age.ends_with('s'), "{age}");
    assert_eq!(
        format!("{checks}written 1s ago{end}").replace("not checked yet", "sound"),
        r#"{"status":"ready","checks":[{"name":"accepting","ok":true,"detail":"taking requests"},{"name":"database","ok":true,"detail":"answers"},{"name":"integrity","ok":true,"detail":"sound"},{"name":"fresh","ok":true,"detail":"written 1s ago"}]}"#
    );
    assert_eq!(server.ask(&request("POST", "/healthz", &[])).status, 405);
}

#[test]
fn a_key_may_be_scoped_and_may_expire() {
    let sandbox = Sandbox::with_file();
    let scoped = "a-scoped-key-of-32-characters-xx";
    let expired = "an-expired-key-of-32-characters-";
    let lasting = "a-lasting-key-of-32-characters-x";
    sandbox.write(
        "sessile.toml",
        &format!(
            "auth.header = \"X-Internal-Key\"\n\
             [[auth.keys]]\nname = \"scoped\"\nkey = \"{scoped}\"\ntenants = [\"acme\", \"t\"]\n\
             [[auth.keys]]\nname = \"expired\"\nkey = \"{expired}\"\nnot_after = 2026-01-01T00:00:00Z\n\
             [[auth.keys]]\nname = \"lasting\"\nkey = \"{lasting}\"\nnot_after = \"9999-12-31T23:59:59Z\"\n"
        ),
    );
    let server = Server::start(sandbox.command(&["serve", "--listen", "127.0.0.1:0"]));
    let status = |key: &str, tenant: &str| {
        server
            .ask(&question(
                "u",
                &[("X-Internal-Key", key), ("X-Tenant-ID", tenant)],
            ))
            .status
    };
    assert_eq!(status(scoped, "t"), 200);
    assert_eq!(status(scoped, "acme"), 200);
    assert_eq!(status(scoped, "Acme"), 403);
    assert_eq!(status(scoped, "bad tenant"), 400);
    assert_eq!(status(expired, "t"), 401);
    assert_eq!(status(lasting, "t"), 200);
    assert_eq!(
        server
            .ask(&question("u", &[("X-API-Key", lasting), TENANT]))
            .status,
        401
    );
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert!(
        log.contains("this API key has expired") && log.contains("\"expired\""),
        "{log}"
    );
}
