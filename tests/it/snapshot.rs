//! What the workers' own connections see, while others write, checkpoint, and come and go: the newest commit,
//! always; and that they hold nobody up.

use std::fs;
use std::time::Instant;

use rusqlite::Connection;

use crate::callers;
use crate::support::{KEY, PATIENCE, Sandbox, Server, question};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

fn serve(sandbox: &Sandbox, snapshot: &str) -> Server {
    sandbox.write(
        "sessile.toml",
        &format!("database.snapshot = \"{snapshot}\""),
    );
    sandbox.serve(&[])
}

fn insert(connection: &Connection, id: &str) {
    let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
               VALUES ('t', ?1, 'u', 0, 9999999999999)";
    connection
        .prepare_cached(sql)
        .unwrap()
        .execute([id])
        .unwrap();
}

/// Beside callers none of whom may ever see a count go back.
fn beside_callers(server: &Server, work: impl FnOnce()) {
    callers::beside_callers(server, |before, count| count >= before, work);
}

/// No answer is older than its commit, on any worker, whatever else the writers do to the WAL.
fn no_answer_is_older_than_its_commit(snapshot: &str) {
    let sandbox = Sandbox::with_file();
    let server = serve(&sandbox, snapshot);
    // More connections than workers: each worker has one of them.
    let mut connections: Vec<_> = (0..4).map(|_| server.connect()).collect();
    beside_callers(&server, || {
        let mut writer = sandbox.sqlite();
        for number in 1..=600 {
            insert(&writer, &number.to_string());
            for connection in &mut connections {
                let count = connection.ask(&question("u", &FIELDS)).json()["session_count"].clone();
                assert_eq!(count, number, "{snapshot}");
            }
            match number % 50 {
                10 => writer
                    .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
                    .unwrap(),
                // Waits until no reader uses the WAL, or says that one does.
                20 => writer
                    .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                    .unwrap(),
                30 => writer = sandbox.sqlite(),
                _ => {}
            }
        }
        writer.execute_batch("VACUUM").unwrap();
        insert(&writer, "after the vacuum");
        for connection in &mut connections {
            assert_eq!(
                connection.ask(&question("u", &FIELDS)).json()["session_count"],
                601
            );
        }
    });
}

#[test]
fn no_answer_is_older_than_its_commit_when_held() {
    no_answer_is_older_than_its_commit("held");
}

#[test]
fn no_answer_is_older_than_its_commit_per_query() {
    no_answer_is_older_than_its_commit("per-query");
}

/// A writer that checkpoints as SQLite does by default keeps its WAL short, although callers ask all the time. A worker
/// that the machine does not let run holds its snapshot for as long, which happens on a busy one: once in three times is
/// often enough to tell it from one that never lets go.
#[test]
fn the_wal_stays_short_under_load() {
    let longest = [(); 3].map(|()| {
        let sandbox = Sandbox::with_file();
        let server = serve(&sandbox, "held");
        let mut longest = 0;
        beside_callers(&server, || {
            let writer = sandbox.sqlite();
            for number in 0..6_000 {
                insert(&writer, &number.to_string());
                if number % 100 == 0 {
                    let wal = fs::metadata(sandbox.path("sessile.db-wal"));
                    longest = longest.max(wal.unwrap().len());
                }
            }
        });
        longest
    });
    // 6,000 commits of three pages and more would be 70 MB.
    assert!(
        longest.iter().any(|bytes| *bytes < 16_000_000),
        "{longest:?} bytes"
    );
}

/// A snapshot that nobody asks is let go: in the end a writer can begin the WAL anew.
#[test]
fn an_idle_snapshot_is_let_go() {
    let sandbox = Sandbox::with_file();
    let server = serve(&sandbox, "held");
    let writer = sandbox.sqlite();
    insert(&writer, "1");
    assert_eq!(server.count("t", "u").json()["session_count"], 1);
    // Nobody asks after this commit, so a snapshot from before it stays until its time is up.
    insert(&writer, "2");
    let deadline = Instant::now() + PATIENCE;
    writer.busy_timeout(std::time::Duration::ZERO).unwrap();
    let is_busy = || {
        writer
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, bool>(0)
            })
            .unwrap()
    };
    while is_busy() {
        assert!(Instant::now() < deadline, "a snapshot is held for ever");
    }
    assert_eq!(server.count("t", "u").json()["session_count"], 2);
}

/// A user with so many sessions that the worker gives up is counted all the same, and rightly, beside others.
#[test]
fn a_heavy_count_is_right_and_holds_nobody_up() {
    let sandbox = Sandbox::with_file();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        SELECT 't', 'many ' || i, 'many', 0, 9999999999999 FROM n";
    sandbox.sqlite().execute_batch(many).unwrap();
    let server = serve(&sandbox, "held");
    beside_callers(&server, || {
        let mut connection = server.connect();
        for _ in 0..20 {
            let response = connection.ask(&question("many", &FIELDS));
            assert_eq!(response.body, r#"{"active":true,"session_count":100000}"#);
        }
    });
}
