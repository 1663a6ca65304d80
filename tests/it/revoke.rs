//! `revoke`: what it ends, what it leaves alone, what it says, and that the next answer knows.

use rusqlite::Connection;
use serde_json::Value;

use crate::callers::beside_callers;
use crate::support::{KEY, Sandbox, question};

fn session(tenant: &str, id: &str, user: &str, more: &str) -> String {
    format!(
        r#"{{"tenant_id":"{tenant}","id":"{id}","user_id":"{user}","expires_in":"1h","ip":"203.0.113.7","user_agent":"UA","geoip":"X"{more}}}"#
    ) + "\n"
}

/// Of `u` in tenant `t` one live session, one expired one and one that was revoked before; and some of others.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_file();
    sandbox.import(
        &[
            session("t", "live", "u", ""),
            session("t", "old", "u", "").replace("1h", "-1h"),
            session(
                "t",
                "revoked",
                "u",
                r#","revoked_at":1000000000000,"revoke_reason":"before""#,
            ),
            session("t", "other", "v", ""),
            session("s", "live", "u", ""),
        ]
        .concat(),
    );
    sandbox
}

/// Tenant, id, whether revoked by now, reason, and whether there is anything to forget.
fn rows(connection: &Connection) -> Vec<String> {
    let sql = "SELECT tenant_id || ' ' || id || ': ' || CASE revoked_at WHEN 1000000000000 THEN 'before'
            ELSE coalesce((SELECT 'now' WHERE abs(revoked_at - (julianday('now') - 2440587.5) * 86400000) < 600000), 'no')
            END || ', ' || coalesce(revoke_reason, 'no reason') || iif(coalesce(ip, user_agent, geoip) IS NULL, ', forgotten', '')
        FROM session ORDER BY tenant_id, id";
    let mut select = connection.prepare(sql).unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn revoke(sandbox: &Sandbox, args: &[&str]) -> Value {
    let all = [&["revoke", "--json", "--tenant", "t"], args].concat();
    serde_json::from_str(&sandbox.run(&all).ok()).unwrap()
}

#[test]
fn one_session_ends() {
    let sandbox = sandbox();
    let told = revoke(&sandbox, &["--session", "live", "--reason", "logout"]);
    let wanted = serde_json::json!({"ended": 1, "were_active": 1, "forgotten": 0, "found": true});
    assert_eq!(told, wanted);
    assert_eq!(
        rows(&sandbox.sqlite()),
        [
            "s live: no, no reason",
            "t live: now, logout",
            "t old: no, no reason",
            "t other: no, no reason",
            "t revoked: before, before",
        ]
    );
    sandbox.run(&["check", "--tenant", "t", "u"]).failed(1);
    sandbox.run(&["check", "--tenant", "s", "u"]).ok();
}

#[test]
fn all_of_a_user_end_and_an_earlier_end_stays() {
    let sandbox = sandbox();
    let told = revoke(&sandbox, &["--user", "u", "--reason", "password changed"]);
    let wanted = serde_json::json!({"ended": 2, "were_active": 1, "forgotten": 0, "found": true});
    assert_eq!(told, wanted);
    let after = [
        "s live: no, no reason",
        "t live: now, password changed",
        "t old: now, password changed",
        "t other: no, no reason",
        "t revoked: before, before",
    ];
    assert_eq!(rows(&sandbox.sqlite()), after);
    let told = revoke(&sandbox, &["--user", "u", "--reason", "another"]);
    let wanted = serde_json::json!({"ended": 0, "were_active": 0, "forgotten": 0, "found": true});
    assert_eq!(told, wanted);
    assert_eq!(rows(&sandbox.sqlite()), after);
}

#[test]
fn all_of_a_tenant_end_and_what_no_answer_needs_is_forgotten() {
    let sandbox = sandbox();
    let told = revoke(&sandbox, &["--all", "--forget"]);
    let wanted = serde_json::json!({"ended": 3, "were_active": 2, "forgotten": 4, "found": true});
    assert_eq!(told, wanted);
    assert_eq!(
        rows(&sandbox.sqlite()),
        [
            "s live: no, no reason",
            "t live: now, no reason, forgotten",
            "t old: now, no reason, forgotten",
            "t other: now, no reason, forgotten",
            "t revoked: before, before, forgotten",
        ]
    );
}

#[test]
fn what_was_forgotten_is_overwritten() {
    let sandbox = sandbox();
    revoke(&sandbox, &["--user", "u", "--forget"]);
    revoke(&sandbox, &["--user", "v", "--forget"]);
    let file = std::fs::read(sandbox.database()).unwrap();
    let count = file
        .windows(11)
        .filter(|bytes| *bytes == b"203.0.113.7")
        .count();
    assert_eq!(count, 1, "that of tenant s");
}

#[test]
fn a_policy_tells_which_were_active() {
    let sandbox = sandbox();
    sandbox.write("sessile.toml", "[sessions.policy]\nmax_age = \"1ms\"");
    assert_eq!(revoke(&sandbox, &["--all"])["were_active"], 0);
}

#[test]
fn nothing_found_is_said_and_no_error() {
    let sandbox = sandbox();
    let told = |args: &[&str]| sandbox.run(&[&["revoke", "--tenant"], args].concat()).ok();
    assert_eq!(
        told(&["t", "--user", "U"]),
        "ended 0 sessions: there is no session of user U in tenant t\n"
    );
    assert_eq!(
        told(&["t", "--session", "Live"]),
        "ended 0 sessions: there is no session Live in tenant t\n"
    );
    assert_eq!(
        told(&["T", "--all"]),
        "ended 0 sessions: there is no session of tenant T\n"
    );
    assert_eq!(
        told(&["t", "--session", "revoked"]),
        "ended 0 sessions: session revoked in tenant t was revoked before\n"
    );
    assert_eq!(
        told(&["t", "--user", "u", "--forget"]),
        "ended 2 sessions, 1 of them active; cleared ip, user_agent and geoip of 3 sessions\n"
    );
    assert_eq!(
        told(&["t", "--user", "u"]),
        "ended 0 sessions: those of user u in tenant t were revoked before\n"
    );
}

#[test]
fn exactly_one_target_is_named() {
    let sandbox = sandbox();
    for args in [
        &["revoke", "--tenant", "t"][..],
        &["revoke", "--tenant", "t", "--all", "--user", "u"],
        &["revoke", "--tenant", "t", "--session", "s", "--user", "u"],
        &["revoke", "--user", "u"],
        &["revoke", "--tenant", "t", "--user", ""],
    ] {
        sandbox.run(args).failed(2);
    }
    assert!(
        rows(&sandbox.sqlite())
            .iter()
            .all(|row| !row.contains("now"))
    );
}

/// Each revocation is in the next answer on every worker, and no caller sees a count that grows or an error.
#[test]
fn the_next_answer_knows_of_a_revocation() {
    let sandbox = Sandbox::with_file();
    let many: String = (1..=40)
        .map(|id| session("t", &id.to_string(), "u", ""))
        .collect();
    sandbox.import(&many);
    let server = sandbox.serve(&[]);
    let mut connections: Vec<_> = (0..4).map(|_| server.connect()).collect();
    beside_callers(
        &server,
        |last, count| count <= last,
        || {
            let mut is_at = |wanted: u64| {
                for connection in &mut connections {
                    let fields = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];
                    let response = connection.ask(&question("u", &fields));
                    assert_eq!(response.json()["session_count"], wanted);
                }
            };
            for left in (30..40).rev() {
                revoke(&sandbox, &["--session", &(left + 1).to_string()]);
                is_at(left);
            }
            assert_eq!(revoke(&sandbox, &["--user", "u"])["were_active"], 30);
            is_at(0);
        },
    );
}
