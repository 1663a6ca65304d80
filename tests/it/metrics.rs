//! What those who watch the server see: metrics, the alerts that are made of them, and whether the feed still comes.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::{
    Connection, Ended, KEY, Sandbox, Server, question, request, skipped, wait_until,
};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

fn text(server: &Server) -> String {
    let response = server.ask(&request("GET", "/metrics", &[]));
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        response.field("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    response.body
}

/// The value of the sample with this name and these labels, as they are written.
fn sample(text: &str, name: &str) -> Option<f64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

/// A server with everything to tell that there is.
fn watched() -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.write(
        "sessile.toml",
        "[database]\nstale_after = \"1h\"\n[metrics]\ntenants = 2\nsessions_interval = \"1s\"\n\
         [sessions.policy.tenants.short]\nmax_age = \"1s\"\n\
         [[auth.keys]]\nname = \"k\"\nkey = \"another-key-of-more-than-32-characters\"\nmax_rate = 9\n\
         not_after = 2099-01-01T00:00:00Z\n",
    );
    let sessions = |tenant: &str, count: usize, end: &str| -> String {
        let session = |number| {
            format!(
                "{{\"tenant_id\":\"{tenant}\",\"id\":\"{end}{number}\",\"user_id\":\"u{}\",\"created_ago\":\"1h\",\"expires_in\":\"{end}\"}}\n",
                number % 3
            )
        };
        (0..count).map(session).collect()
    };
    sandbox.import(
        &[
            sessions("t", 5, "30d"),
            sessions("t", 7, "-1s"),
            sessions("a\\\"b", 4, "30d"),
            sessions("few", 3, "30d"),
            sessions("short", 6, "30d"),
        ]
        .concat(),
    );
    let server = sandbox.serve(&[]);
    (sandbox, server)
}

fn is_complete(text: &str) -> bool {
    text.contains("sessile_active_sessions ") && text.contains("sessile_integrity_sound ")
}

#[test]
fn every_metric_is_explained_in_the_readme() {
    let (sandbox, server) = watched();
    sandbox.run(&["heartbeat"]).ok();
    wait_until("all was counted and checked", || {
        is_complete(&text(&server))
    });
    let text = text(&server);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();

    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("\n## Metrics\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let names = section.split('`').skip(1).step_by(2);
    let explained: BTreeSet<&str> = names
        .filter(|name| name.starts_with("sessile_") || name.starts_with("process_"))
        .collect();
    assert_eq!(told, explained);
}

/// Runs promtool; `None`, with a printed reason, where it is not installed.
fn promtool(args: &[&str], folder: &Path, input: &str) -> Option<Ended> {
    let child = Command::new("promtool")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            skipped(&format!("promtool can't be run here: {error}"));
            return None;
        }
    };
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(child.wait_with_output().unwrap().into())
}

#[test]
fn prometheus_has_no_complaint() {
    let (sandbox, server) = watched();
    for _ in 0..3 {
        assert_eq!(server.ask(&question("u", &FIELDS)).status, 200);
    }
    wait_until("all was counted and checked", || {
        is_complete(&text(&server))
    });
    let ended = promtool(&["check", "metrics"], &sandbox.path("."), &text(&server));
    if let Some(ended) = ended {
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn the_alerts_go_off_when_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    for args in [
        ["check", "rules", "sessile.rules.yml"],
        ["test", "rules", "sessile.test.yml"],
    ] {
        if let Some(ended) = promtool(&args, &folder, "") {
            ended.ok();
        }
    }
}

/// The rules and the README name the same alerts, and each has a test.
#[test]
fn every_alert_is_tested_and_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name| std::fs::read_to_string(root.join(name)).unwrap();
    let (rules, tests, readme) = (
        read("packaging/prometheus/sessile.rules.yml"),
        read("packaging/prometheus/sessile.test.yml"),
        read("README.md"),
    );
    let behind = |text: &str, mark: &str| -> BTreeSet<String> {
        let lines = text.lines().map(str::trim_start);
        lines
            .filter_map(|line| line.strip_prefix(mark))
            .map(|rest| rest.split('`').next().unwrap().to_owned())
            .collect()
    };
    let alerts = behind(&rules, "- alert: ");
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, behind(&tests, "alertname: "));
    let explained = behind(&readme, "| `Sessile");
    let named = alerts.iter().map(|name| name.replacen("Sessile", "", 1));
    assert_eq!(explained, named.collect());
}

#[test]
fn requests_are_counted_by_route_and_status() {
    let (_sandbox, server) = watched();
    for _ in 0..20 {
        assert_eq!(server.ask(&question("u", &FIELDS)).status, 200);
        assert_eq!(server.ask(&question("u", &[])).status, 401);
        assert_eq!(server.ask(&request("GET", "/nowhere", &[])).status, 404);
    }
    let text = text(&server);
    let route = "route=\"/internal/session/sessions/{user_id}/active\"";
    let requests =
        |labels: &str| sample(&text, &format!("sessile_http_requests_total{{{labels}}}"));
    assert_eq!(requests(&format!("{route},status=\"200\"")), Some(20.0));
    assert_eq!(requests(&format!("{route},status=\"401\"")), Some(20.0));
    assert_eq!(requests(&format!("{route},status=\"500\"")), Some(0.0));
    assert_eq!(requests("route=\"none\",status=\"404\""), Some(20.0));

    let duration = |what: &str| {
        sample(
            &text,
            &format!("sessile_http_request_duration_seconds_{what}"),
        )
    };
    let count = duration(&format!("count{{{route}}}"));
    assert_eq!(count, Some(40.0), "{text}");
    assert_eq!(
        duration(&format!("bucket{{le=\"+Inf\",{route}}}")),
        count,
        "{text}"
    );
    let sum = duration(&format!("sum{{{route}}}")).unwrap();
    assert!(sum > 0.0 && sum < 40.0, "{sum}");
    let lanes = ["worker", "pool"].map(|lane| {
        sample(
            &text,
            &format!("sessile_query_duration_seconds_count{{lane=\"{lane}\"}}"),
        )
        .unwrap()
    });
    assert_eq!(lanes.iter().sum::<f64>(), 20.0, "{text}");
    assert!(sample(&text, "sessile_snapshots_opened_total").unwrap() >= 1.0);
    // This one is under way while it is written, and counts as no question.
    assert_eq!(sample(&text, "sessile_http_requests_in_flight"), Some(0.0));
    assert!(sample(&text, "process_open_fds").unwrap() > 5.0);
    assert!(sample(&text, "process_resident_memory_bytes").unwrap() > 1e6);
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let (_sandbox, server) = watched();
    let mut connections: Vec<Connection<_>> = (0..7).map(|_| server.connect()).collect();
    for connection in &mut connections {
        assert_eq!(connection.ask(&question("u", &FIELDS)).status, 200);
    }
    let is_open = |wanted: f64| sample(&text(&server), "sessile_connections") == Some(wanted);
    wait_until("the seven and the one that asks are open", || is_open(8.0));
    drop(connections);
    wait_until("only the one that asks is open", || is_open(1.0));
    let accepted = sample(&text(&server), "sessile_connections_accepted_total").unwrap();
    assert!(accepted >= 9.0, "{accepted}");
}

/// By the one predicate, policies of tenants included; and tenants are told apart only where they are asked for.
#[test]
fn active_sessions_are_counted_in_the_background() {
    let (sandbox, server) = watched();
    let active = || sample(&text(&server), "sessile_active_sessions");
    wait_until("they were counted", || active().is_some());
    let text = text(&server);
    assert_eq!(active(), Some(5.0 + 4.0 + 3.0));
    let tenants: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("sessile_tenant_active_sessions{"))
        .collect();
    assert_eq!(
        tenants,
        [
            "sessile_tenant_active_sessions{tenant=\"t\"} 5",
            "sessile_tenant_active_sessions{tenant=\"a\\\"b\"} 4",
        ]
    );
    sandbox
        .import("{\"tenant_id\":\"t\",\"id\":\"more\",\"user_id\":\"u\",\"expires_in\":\"1h\"}\n");
    wait_until("they were counted again", || active() == Some(13.0));
}

/// Gives a file the time of its last change. With that of its last reading, since the kernel tells of the former alone
/// as of a write.
fn touch(path: &Path, ago: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    let then = SystemTime::now() - ago;
    let times = FileTimes::new().set_accessed(then).set_modified(then);
    file.set_times(times).unwrap();
}

const HOURS: Duration = Duration::from_secs(2 * 3600);

/// A feed that falls silent makes `/readyz` red, a commit of anybody makes it green, and nothing else does.
#[test]
fn a_silent_feed_is_told() {
    let (sandbox, server) = watched();
    let wal = sandbox.path("sessile.db-wal");
    let state = || {
        let ready = server.ask(&request("GET", "/readyz", &[]));
        let checks = ready.json()["checks"].as_array().unwrap().clone();
        let fresh = checks
            .into_iter()
            .find(|check| check["name"] == "fresh")
            .unwrap();
        (ready.status, fresh["detail"].as_str().unwrap().to_owned())
    };
    let fresh = || {
        let (status, detail) = state();
        status == 200 && detail.starts_with("written ") && detail.ends_with("s ago")
    };
    let stale = || state() == (503, "written 2h ago, over database.stale_after".to_owned());
    assert!(fresh());
    touch(&sandbox.database(), HOURS);
    assert!(stale());
    let written_at = || {
        sample(
            &text(&server),
            "sessile_database_last_write_timestamp_seconds",
        )
        .unwrap()
    };
    let before = written_at();
    assert_eq!(
        sample(&text(&server), "sessile_ready{check=\"fresh\"}"),
        Some(0.0)
    );

    let writer = sandbox.sqlite();
    let insert = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                  VALUES ('t', 'new', 'u', 0, 9999999999999)";
    writer.execute(insert, []).unwrap();
    assert!(fresh());
    assert!(written_at() - before > 7_000.0);
    assert_eq!(
        sample(&text(&server), "sessile_ready{check=\"fresh\"}"),
        Some(1.0)
    );

    // A checkpoint writes the file, and reading reads it: neither is a commit.
    touch(&wal, HOURS);
    assert!(stale());
    let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
    writer.query_row(checkpoint, [], |_| Ok(())).unwrap();
    assert_eq!(server.ask(&question("u", &FIELDS)).status, 200);
    sandbox.run(&["check", "--tenant", "t", "u"]).ok();
    assert!(stale());
    // By another program.
    if sandbox
        .sqlite3("UPDATE session SET user_id = user_id WHERE id = 'new'")
        .is_some()
    {
        assert!(fresh());
    }
}
