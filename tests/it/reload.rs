//! SIGHUP: keys and policies are read anew, and no caller notices but by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::callers::Stop;
use crate::support::{KEY, Sandbox, Server, question, request, wait_until};

const OLD: &str = "the-old-key-for-tests-of-32-chars";
const NEW: &str = "the-new-key-for-tests-of-32-chars";

fn configure(sandbox: &Sandbox, keys: &[(&str, &str)], more: &str) {
    let keys: String = keys
        .iter()
        .map(|(name, key)| format!("[[auth.keys]]\nname = \"{name}\"\nkey = \"{key}\"\n"))
        .collect();
    sandbox.write("sessile.toml", &format!("{keys}{more}"));
}

fn start(sandbox: &Sandbox) -> Server {
    Server::start(sandbox.command(&["serve", "--listen", "127.0.0.1:0"]))
}

fn ask(key: &str) -> Vec<u8> {
    question("u", &[("X-API-Key", key), ("X-Tenant-ID", "t")])
}

/// Every sample of `/metrics`, by its name and labels.
fn metrics(server: &Server) -> HashMap<String, f64> {
    let response = server.ask(&request("GET", "/metrics", &[]));
    assert_eq!(response.status, 200, "{response:?}");
    let samples = response.body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Has the server read its configuration anew, which must be without a fault.
#[track_caller]
fn reload(server: &Server) {
    let at = || metrics(server)["sessile_config_last_reload_success_timestamp_seconds"];
    let before = at();
    server.signal("-HUP");
    wait_until("the configuration was reloaded", || at() != before);
}

/// While `work` runs, four callers ask with `key` on connections that they keep. Each answer must be 200.
fn beside_callers_with(server: &Server, key: &str, work: impl FnOnce()) -> u64 {
    let (done, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = server.connect();
                // Once at least, however little time `work` leaves.
                loop {
                    let response = connection.ask(&ask(key));
                    assert_eq!(response.status, 200, "{response:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let _stop = Stop(&done);
        work();
    });
    answers.into_inner()
}

/// Old key alone, both, new key alone: whoever moves while both are valid is never refused, on one connection.
#[test]
fn a_key_is_rotated_under_load() {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, &[("old", OLD)], "");
    let server = start(&sandbox);
    let mut kept = server.connect();
    assert_eq!(kept.ask(&ask(OLD)).status, 200);
    assert_eq!(kept.ask(&ask(NEW)).status, 401);

    let with_old = beside_callers_with(&server, OLD, || {
        configure(&sandbox, &[("old", OLD), ("new", NEW)], "");
        reload(&server);
        assert_eq!(kept.ask(&ask(NEW)).status, 200);
    });
    let with_new = beside_callers_with(&server, NEW, || {
        configure(&sandbox, &[("new", NEW)], "");
        reload(&server);
        assert_eq!(
            kept.ask(&ask(OLD)).status,
            401,
            "a removed key is refused at once"
        );
    });
    assert_eq!(kept.ask(&ask(NEW)).status, 200);
    assert!(with_old > 0 && with_new > 0);
    server.signal("-TERM");
    let log = server.ended().stderr;
    let told = log.matches("the configuration was reloaded").count();
    assert_eq!(told, 2, "{log}");
    assert!(
        log.contains("API keys in force: 2") && log.contains("API keys in force: 1"),
        "{log}"
    );
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[test]
fn a_faulty_configuration_changes_nothing_and_says_why() {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, &[("old", OLD)], "[sessions]\nleeway = \"1s\"\n");
    let server = start(&sandbox);
    let successful = || metrics(&server)["sessile_config_last_reload_successful"];
    let at = || metrics(&server)["sessile_config_last_reload_success_timestamp_seconds"];
    assert_eq!(successful(), 1.0);
    let faults: [&dyn Fn(); 4] = [
        &|| {
            configure(
                &sandbox,
                &[("new", NEW)],
                "[sessions]\nleeway = \"61s\"\n[log]\nlevle = \"info\"\n",
            )
        },
        &|| {
            configure(
                &sandbox,
                &[],
                "[[auth.keys]]\nname = \"k\"\nkey_file = \"gone\"\n",
            )
        },
        &|| configure(&sandbox, &[], ""),
        &|| std::fs::remove_file(sandbox.path("sessile.toml")).unwrap(),
    ];
    for fault in faults {
        let in_force = at();
        fault();
        server.signal("-HUP");
        wait_until("the fault was found", || successful() == 0.0);
        assert_eq!(server.ask(&ask(OLD)).status, 200);
        assert_eq!(server.ask(&ask(NEW)).status, 401);
        assert_eq!(at(), in_force);
        configure(&sandbox, &[("old", OLD)], "");
        server.signal("-HUP");
        wait_until("the fault was mended", || successful() == 1.0);
    }
    server.signal("-TERM");
    let log = server.ended().stderr;
    for why in [
        "sessile.toml: sessions.leeway: found \\\"61s\\\"",
        "log.levle: unknown key; did you mean log.level?",
        "auth.keys[0].key_file: can't read \\\"gone\\\"",
        "auth.keys: found no API key",
        "can't read the configuration file \\\"sessile.toml\\\"",
        "what was in force stays so",
    ] {
        assert!(log.contains(why), "{why} is not in\n{log}");
    }
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[test]
fn policies_and_a_keys_tenants_change() {
    let sandbox = Sandbox::with_file();
    sandbox.import(
        r#"{"tenant_id":"t","id":"1","user_id":"u","created_ago":"2h","expires_in":"30d"}"#,
    );
    configure(&sandbox, &[("k", OLD)], "");
    let server = start(&sandbox);
    let mut kept = server.connect();
    let mut count = || kept.ask(&ask(OLD)).body;
    assert_eq!(count(), r#"{"active":true,"session_count":1}"#);
    configure(
        &sandbox,
        &[("k", OLD)],
        "[sessions.policy]\nmax_age = \"1h\"\n",
    );
    reload(&server);
    assert_eq!(count(), r#"{"active":false,"session_count":0}"#);
    configure(
        &sandbox,
        &[("k", OLD)],
        "[sessions.policy]\nmax_age = \"1h\"\n[sessions.policy.tenants.t]\npreset = \"none\"\n",
    );
    reload(&server);
    assert_eq!(count(), r#"{"active":true,"session_count":1}"#);

    let mut status = |tenants: &str| {
        configure(&sandbox, &[("k", OLD)], &format!("tenants = {tenants}\n"));
        reload(&server);
        kept.ask(&ask(OLD)).status
    };
    assert_eq!(status("[\"s\"]"), 403);
    assert_eq!(status("[\"s\", \"t\"]"), 200);
}

/// What else has changed is told, key by key, and stays as it was. A server in production mode judges keys by the
/// rules of that mode whatever the file says later.
#[test]
fn what_can_not_change_is_told() {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, &[("k", OLD)], "");
    let server = start(&sandbox);
    let more = "[server]\nmax_in_flight = 7\n[database]\npath = \"other.db\"\n[auth]\nheader = \"X-Other\"\n";
    sandbox.write(
        "sessile.toml",
        &format!("{more}[[auth.keys]]\nname = \"k\"\nkey = \"{OLD}\"\n"),
    );
    reload(&server);
    assert_eq!(server.ask(&ask(OLD)).status, 200);
    configure(&sandbox, &[("k", "short")], "");
    let text = std::fs::read_to_string(sandbox.path("sessile.toml")).unwrap();
    sandbox.write("sessile.toml", &format!("mode = \"development\"\n{text}"));
    server.signal("-HUP");
    wait_until("the short key was refused", || {
        metrics(&server)["sessile_config_last_reload_successful"] == 0.0
    });
    configure(&sandbox, &[("k", OLD)], "");
    let text = std::fs::read_to_string(sandbox.path("sessile.toml")).unwrap();
    sandbox.write("sessile.toml", &format!("mode = \"development\"\n{text}"));
    reload(&server);
    let pinned = [
        ("X-API-Key", OLD),
        ("X-Tenant-ID", "t"),
        ("X-Sessile-Now", "2026-11-23T12:00:00Z"),
    ];
    assert_eq!(server.ask(&question("u", &pinned)).status, 400);
    server.signal("-TERM");
    let log = server.ended().stderr;
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("this setting has changed"))
        .map(|line| line.split("\"config.key\":\"").nth(1).unwrap())
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "auth.header",
            "database.path",
            "server.max_in_flight",
            "mode"
        ]
    );
}

/// A hundred signals in a row, with callers beside them. Signals that come while one is worked at are one more.
#[test]
fn a_storm_of_signals_is_no_harm() {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, &[("k", OLD)], "");
    let server = start(&sandbox);
    beside_callers_with(&server, OLD, || {
        for round in 0..100 {
            configure_whole(&sandbox, round);
            server.signal("-HUP");
        }
        let name = "sessile_api_key_requests_total{key=\"99\",status=\"2xx\"}";
        wait_until("the last of them was taken", || {
            metrics(&server).contains_key(name)
        });
    });
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(ended.code, Some(0));
    assert!(!ended.stderr.contains("not reloaded"), "{}", ended.stderr);
}

/// Puts a file with the key and one more, named for the round, in its place in one step: a reload may come at any
/// time.
fn configure_whole(sandbox: &Sandbox, round: u32) {
    let text = format!(
        "[[auth.keys]]\nname = \"k\"\nkey = \"{OLD}\"\n\
         [[auth.keys]]\nname = \"{round}\"\nkey = \"{round:040}-and-then\"\n"
    );
    let next = sandbox.write("next.toml", &text);
    std::fs::rename(next, sandbox.path("sessile.toml")).unwrap();
}

/// Uses are counted on, and an allowance is not filled up again, over reloads that leave the key as it is.
#[test]
fn a_reload_forgets_neither_uses_nor_rates() {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, &[("k", OLD)], "max_rate = 1\n");
    let server = start(&sandbox);
    let started = Instant::now();
    let statuses =
        |count: usize| -> Vec<u16> { (0..count).map(|_| server.ask(&ask(OLD)).status).collect() };
    let mut passed = statuses(3).iter().filter(|status| **status == 200).count();
    for _ in 0..5 {
        reload(&server);
        passed += statuses(3).iter().filter(|status| **status == 200).count();
    }
    let allowed = 1 + started.elapsed().as_secs() as usize;
    assert!(
        (1..=allowed).contains(&passed),
        "{passed} passed, {allowed} may"
    );
    let metrics = metrics(&server);
    assert_eq!(
        metrics["sessile_api_key_requests_total{key=\"k\",status=\"2xx\"}"],
        passed as f64
    );
    let limited = 18.0 - passed as f64;
    assert_eq!(
        metrics["sessile_api_key_requests_total{key=\"k\",status=\"4xx\"}"],
        limited
    );
    assert_eq!(
        metrics["sessile_api_key_rate_limited_total{key=\"k\"}"],
        limited
    );
}

/// The variable's key is one of all, which a reload leaves alone.
#[test]
fn the_variables_key_stays() {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(&[]);
    configure(&sandbox, &[("new", NEW)], "");
    reload(&server);
    assert_eq!(server.ask(&ask(KEY)).status, 200);
    assert_eq!(server.ask(&ask(NEW)).status, 200);
}
