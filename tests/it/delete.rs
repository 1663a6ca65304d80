//! `delete`: nothing of the user is left in the file or beside it.

use std::fs;

use serde_json::Value;

use crate::callers::beside_callers;
use crate::restore::LITESTREAM;
use crate::support::Sandbox;

const USER: &str = "erase.me@example.com";
const TRACES: [&str; 4] = [USER, "203.0.113.77", "Netscape Navigator", "Ultima Thule"];

/// A file in which the sessions of a user lie among those of others, moved about by a login system that cares for no
/// traces, and sampled by `ANALYZE`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_file();
    let connection = sandbox.sqlite();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, revoked_at, ip, user_agent, geoip)
         SELECT 't', 'session ' || i, iif(i % 9, 'user ' || i % 50, '{USER}'), 0, 4000000000000, iif(i % 4, NULL, 5),
                iif(i % 9, '192.0.2.1', '{}'), iif(i % 9, 'UA', '{}'), iif(i % 9, NULL, '{}') FROM n;
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
         VALUES ('t', '1', 'u', 0, 4000000000000), ('t', '2', 'u', 0, 4000000000000)",
        TRACES[1], TRACES[2], TRACES[3]
    );
    connection.execute_batch(&sql).unwrap();
    for round in 0..5 {
        let sql = format!(
            "UPDATE session SET idle_expires_at = 4000000000000 + {round}, user_agent = user_agent || ' {round}'
             WHERE user_id = '{USER}' OR rowid % 7 = {round};
             PRAGMA wal_checkpoint;
             DELETE FROM session WHERE user_id = '{USER}' AND rowid % 5 = {round} AND rowid < 900"
        );
        connection.execute_batch(&sql).unwrap();
    }
    connection.execute_batch("ANALYZE").unwrap();
    sandbox
}

/// How often each trace is in the file and its WAL.
fn traces(sandbox: &Sandbox) -> [usize; 4] {
    let files = ["sessile.db", "sessile.db-wal"]
        .map(|name| fs::read(sandbox.path(name)).unwrap_or_default());
    TRACES.map(|trace| {
        let count = |file: &Vec<u8>| {
            file.windows(trace.len())
                .filter(|bytes| *bytes == trace.as_bytes())
                .count()
        };
        files.iter().map(count).sum()
    })
}

fn delete(sandbox: &Sandbox) -> Value {
    let args = ["delete", "--json", "--tenant", "t", "--user", USER];
    serde_json::from_str(&sandbox.run(&args).ok()).unwrap()
}

#[test]
fn no_trace_is_left_under_a_server_and_no_answer_is_wrong() {
    let sandbox = sandbox();
    assert!(
        traces(&sandbox).iter().all(|count| *count > 10),
        "{:?}",
        traces(&sandbox)
    );
    let samples =
        format!("SELECT count(*) FROM sqlite_stat4 WHERE instr(sample, CAST('{USER}' AS BLOB))");
    assert!(sandbox.number(&samples) > 0, "ANALYZE keeps samples here");
    let of_user = sandbox.number(&format!(
        "SELECT count(*) FROM session WHERE user_id = '{USER}'"
    ));
    let all = sandbox.number("SELECT count(*) FROM session");
    let server = sandbox.serve(&[]);
    assert_eq!(
        server.count("t", &crate::support::encode(USER)).json()["active"],
        true
    );
    beside_callers(
        &server,
        |last, count| last == 2 && count == 2,
        || {
            let told = delete(&sandbox);
            assert_eq!(
                told,
                serde_json::json!({"deleted": of_user, "traces_removed": true})
            );
            assert_eq!(traces(&sandbox), [0; 4]);
        },
    );
    assert_eq!(
        server.count("t", &crate::support::encode(USER)).json()["session_count"],
        0
    );
    assert_eq!(
        sandbox.number("SELECT count(*) FROM session"),
        all - of_user
    );
    assert_eq!(
        delete(&sandbox),
        serde_json::json!({"deleted": 0, "traces_removed": true})
    );
    let audit = sandbox.run(&["audit", "--json"]).ok();
    assert!(
        audit.contains("\"delete\"") && !audit.contains(USER),
        "{audit}"
    );
}

#[test]
fn only_the_user_of_the_tenant_is_deleted() {
    let sandbox = Sandbox::with_file();
    let session = |tenant: &str, id: &str, user: &str| {
        format!(
            "{{\"tenant_id\":\"{tenant}\",\"id\":\"{id}\",\"user_id\":\"{user}\",\"expires_in\":\"1h\"}}\n"
        )
    };
    sandbox.import(
        &[
            session("t", "1", "u"),
            session("t", "2", "U"),
            session("s", "1", "u"),
        ]
        .concat(),
    );
    let told = sandbox
        .run(&["delete", "--tenant", "t", "--user", "u"])
        .ok();
    assert_eq!(told, "deleted 1 session of user u in tenant t\n");
    assert_eq!(sandbox.number("SELECT count(*) FROM session"), 2);
    let told = sandbox
        .run(&["delete", "--tenant", "t", "--user", "nobody"])
        .ok();
    assert_eq!(told, "deleted 0 sessions of user nobody in tenant t\n");
    for args in [&["delete", "--user", "u"][..], &["delete", "--tenant", "t"]] {
        sandbox.run(args).failed(2);
    }
}

/// A reader that keeps its transaction open keeps the WAL, and with it what was deleted: that is no success.
#[test]
fn traces_that_stay_are_told() {
    let sandbox = sandbox();
    let reader = sandbox.sqlite();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM session")
        .unwrap();
    let ended = sandbox.run(&["delete", "--tenant", "t", "--user", USER]);
    assert!(ended.stdout.starts_with("deleted "), "{ended:?}");
    let error = ended.failed(2);
    assert!(error.contains("run the same command again"), "{error}");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(
        delete(&sandbox),
        serde_json::json!({"deleted": 0, "traces_removed": true})
    );
    assert_eq!(traces(&sandbox), [0; 4]);
}

/// Litestream is such a reader, for good; and what it has sent away is out of reach.
#[test]
fn what_litestream_keeps_is_told() {
    let sandbox = sandbox();
    let reader = sandbox.sqlite();
    reader.execute_batch(LITESTREAM).unwrap();
    let args = ["delete", "--tenant", "t", "--user", USER];
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM session")
        .unwrap();
    let error = sandbox.run(&args).failed(2);
    assert!(
        error.contains("Litestream or another reader keeps the WAL, so traces may be left")
            && error.ends_with("run the same command again while Litestream is stopped\n"),
        "{error}"
    );
    reader.execute_batch("COMMIT").unwrap();
    let ended = sandbox.run(&args);
    assert!(
        ended
            .stderr
            .contains("until it is started anew, its replica until its `retention` has passed"),
        "{ended:?}"
    );
    ended.ok();
    assert_eq!(traces(&sandbox), [0; 4]);
}
