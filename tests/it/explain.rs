//! `explain`: it never disagrees with the answer, and the next change that it tells is exact.

use sessile::session::{Leeway, Policy, TenantId, UserId};
use sessile::store::{Options, Reader, Snapshot, View};
use sessile::time::{Span, Timestamp};

use crate::support::Sandbox;
use crate::vectors::{imported, vectors};

/// The count of every vector is explained as it is given, and it changes at the very millisecond that is told.
fn explained_as_counted(answers: &str, policy: Policy) {
    let sandbox = imported("export.json", "");
    let path = sandbox.database();
    let options = Options {
        pool_size: 1,
        snapshot: Snapshot::Held,
    };
    let reader = Reader::open(&path, options).unwrap();
    let view = View::open(&path).unwrap();
    let lenient = Policy {
        leeway: Leeway::new(Leeway::MAX).unwrap(),
        ..policy
    };
    let mut changes = 0;
    for vector in vectors(answers) {
        let tenant = TenantId::new(vector.tenant).unwrap();
        let user = UserId::new(vector.user).unwrap();
        let at = Timestamp::parse_rfc3339(&vector.at).unwrap();
        for policy in [policy, lenient] {
            let count = |at| {
                reader
                    .count_blocking(&tenant, &user, &policy.cutoffs(at))
                    .unwrap()
            };
            let explained = view.explain(&tenant, &user, at, &policy, 1_000).unwrap();
            assert_eq!(explained.session_count, count(at));
            if policy.leeway == Leeway::default() {
                assert_eq!(explained.session_count, vector.count);
            }
            let counting = explained.sessions.iter().filter(|session| session.counts);
            assert_eq!(counting.count() as u64, explained.session_count);
            assert_eq!(explained.sessions.len() as u64, explained.total);
            match explained.changes_at {
                Some(next) => {
                    changes += 1;
                    assert!(at < next);
                    let before = next.saturating_sub(Span::from_millis(1));
                    assert_eq!(count(before), explained.session_count);
                    assert!(count(next) < explained.session_count);
                }
                None => assert_eq!(explained.session_count, 0),
            }
        }
    }
    assert!(changes > 1_000, "{changes}");
}

#[test]
fn every_vector_is_explained_as_it_is_counted() {
    explained_as_counted("expected.tsv", Policy::default());
}

#[test]
fn every_vector_is_explained_as_it_is_counted_under_a_policy() {
    let policy = Policy {
        max_age: Some(Span::from_hours(12)),
        idle_timeout: Some(Span::from_minutes(30)),
        ..Policy::default()
    };
    explained_as_counted("policy.tsv", policy);
}

const NOON: &str = "2026-11-23T12:00:00Z";

/// One session for each way to end, and one that does not.
fn one_of_each() -> Sandbox {
    let sandbox = Sandbox::with_file();
    let session = |id: &str, authenticated: &str, seen: &str, more: &str| {
        format!(
            r#"{{"tenant_id":"acme","id":"{id}","user_id":"alice","created_ago":"20h","authenticated_ago":"{authenticated}","last_active_ago":"{seen}",{more}}}"#
        )
    };
    let idle = |span: &str| format!(r#""expires_in":"30d","idle_expires_in":"{span}""#);
    let revoked = r#""expires_in":"30d","revoked_at":"2026-11-23T11:00:00Z","revoke_reason":"password changed""#;
    let input = [
        session("live", "1h", "1m", r#""expires_in":"30d""#),
        session("idle soon", "2h", "20m", &idle("9m")),
        session("expired", "20h", "3h", r#""expires_in":"-2h""#),
        session("idle-ended", "20h", "3h", &idle("-1s")),
        session("too old", "20h", "1m", r#""expires_in":"30d""#),
        session("too quiet", "1h", "40m", r#""expires_in":"30d""#),
        session("revoked", "1h", "1m", revoked),
    ];
    sandbox
        .run_with_input(&["import", "--at", NOON, "-"], input.join("\n").as_bytes())
        .ok();
    sandbox
}

#[test]
fn each_way_to_end_is_told() {
    let sandbox = one_of_each();
    let args = ["explain", "--tenant", "acme", "alice", "--at", NOON];
    let stored = sandbox.run(&args).ok();
    sandbox.write(
        "sessile.toml",
        "[sessions]\nleeway = \"5s\"\n[sessions.policy]\nmax_age = \"12h\"\nidle_timeout = \"30m\"\n",
    );
    let policy = sandbox.run(&args).ok();
    insta::assert_snapshot!(format!("{stored}\n{policy}"));
    let json = sandbox.run(&[&args[..], &["--json", "--limit", "2"]].concat());
    insta::assert_snapshot!("in_json_for_programs", json.ok());
}

#[test]
fn a_user_that_the_file_does_not_know_is_told_as_such() {
    let sandbox = one_of_each();
    let told = sandbox.run(&["explain", "--tenant", "acme", "Alice"]).ok();
    assert!(told.starts_with("inactive: 0 sessions of Alice"), "{told}");
    assert!(told.contains("has no session of this user"), "{told}");
}

#[test]
fn of_very_many_sessions_the_first_are_shown_and_all_are_counted() {
    let sandbox = Sandbox::with_file();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        SELECT 't', i, 'u', 0, 4000000000000 + (i * 7919) % 5003 FROM n";
    sandbox.sqlite().execute_batch(many).unwrap();
    let told = sandbox
        .run(&["explain", "--tenant", "t", "u", "--json", "--limit", "3"])
        .ok();
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&json["session_count"], &json["total"]),
        (&5000.into(), &5000.into())
    );
    let mut ends: Vec<u64> = (1..=5000)
        .map(|i| 4_000_000_000_000 + (i * 7919) % 5003)
        .collect();
    ends.sort_unstable();
    let shown: Vec<String> = json["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["ends_at"].as_str().unwrap().to_owned())
        .collect();
    let first = ends[..3]
        .iter()
        .map(|end| Timestamp::from_millis(*end as i64).to_string());
    assert_eq!(shown, first.collect::<Vec<_>>());
    assert_eq!(json["changes_at"], shown[0].as_str());
    let table = sandbox.run(&["explain", "--tenant", "t", "u"]).ok();
    assert!(
        table.ends_with("… and 4900 more; --limit shows them\n"),
        "{table}"
    );
}

/// What another program wrote does not reach the terminal as it is.
#[test]
fn control_characters_of_the_file_are_escaped() {
    let sandbox = Sandbox::with_file();
    let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, revoked_at, revoke_reason)
        VALUES ('t', 'a' || char(27) || '[2J', 'u', 0, 0, 0, char(13) || 'because'),
               ('t', CAST(x'62FF' AS TEXT), 'u', 0, 0, NULL, NULL)";
    sandbox.sqlite().execute_batch(sql).unwrap();
    let told = sandbox.run(&["explain", "--tenant", "t", "u"]).ok();
    assert!(told.contains(r"a\u{1b}[2J (\rbecause)"), "{told}");
    assert!(told.contains("b\u{fffd}\n"), "{told}");
}
