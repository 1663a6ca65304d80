//! `stats`: what the file holds, in numbers.

use serde_json::Value;

use crate::support::Sandbox;
use crate::vectors::imported;

const NOON: &str = "2026-11-23T12:00:00Z";

fn stats(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&sandbox.run(&[&["stats", "--json"], args].concat()).ok()).unwrap()
}

#[test]
fn sessions_are_told_by_what_became_of_them() {
    let sandbox = imported("export.json", "");
    let told = sandbox.run(&["stats", "--at", NOON]).ok();
    let filters = vec![
        (r"last written +.*", "last written  [instant]"),
        (r"[0-9.]+ k?B", "[bytes]"),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(told);
    });
    sandbox.write(
        "sessile.toml",
        "[sessions.policy]\nmax_age = \"12h\"\nidle_timeout = \"30m\"\n",
    );
    let told = sandbox.run(&["stats", "--at", NOON]).ok();
    assert!(
        told.contains(" of the live ones are ended by a policy\n"),
        "{told}"
    );
}

/// The numbers are those that SQL gives.
#[test]
fn the_numbers_add_up() {
    let sandbox = imported("export.json", "");
    let sql = |sql: &str| sandbox.number(sql);
    let at = 1_795_435_200_000u64;
    let json = stats(&sandbox, &["--at", NOON]);
    let live = format!(
        "revoked_at IS NULL AND expires_at > {at} AND ifnull(idle_expires_at, 1e18) > {at}"
    );
    for (name, wanted) in [
        ("sessions", sql("SELECT count(*) FROM session")),
        (
            "tenants",
            sql("SELECT count(DISTINCT tenant_id) FROM session"),
        ),
        (
            "users",
            sql("SELECT count(*) FROM (SELECT DISTINCT tenant_id, user_id FROM session)"),
        ),
        (
            "live",
            sql(&format!("SELECT count(*) FROM session WHERE {live}")),
        ),
        (
            "active",
            sql(&format!("SELECT count(*) FROM session WHERE {live}")),
        ),
        (
            "revoked",
            sql("SELECT count(*) FROM session WHERE revoked_at IS NOT NULL"),
        ),
    ] {
        assert_eq!(json[name], wanted, "{name}");
    }
    let parts =
        ["live", "idle_ended", "expired", "revoked"].map(|name| json[name].as_u64().unwrap());
    assert_eq!(parts.iter().sum::<u64>(), 1_500);
    assert!(parts.iter().all(|part| *part > 0), "{json}");
    sandbox.write(
        "sessile.toml",
        "[sessions.policy.tenants.acme]\nmax_age = \"1ms\"",
    );
    let json = stats(&sandbox, &["--at", NOON]);
    let others = sql(&format!(
        "SELECT count(*) FROM session WHERE {live}
             AND (tenant_id <> 'acme' OR coalesce(authenticated_at, created_at) >= {at})"
    ));
    assert_eq!(
        (&json["live"], &json["active"]),
        (&parts[0].into(), &others.into())
    );
}

#[test]
fn the_ages_and_sizes_are_those_of_the_file() {
    let sandbox = Sandbox::with_file();
    let json = stats(&sandbox, &[]);
    assert_eq!(json["newest_event_at"], Value::Null);
    assert_eq!(
        (&json["sessions"], &json["wal_bytes"]),
        (&0.into(), &0.into())
    );

    let writer = sandbox.sqlite();
    let insert = "INSERT INTO session (tenant_id, id, user_id, created_at, last_active_at, expires_at)
        VALUES ('t', 'a', 'u', 1000, 5000, 9000), ('t', 'b', 'u', 2000, 4000000000000, 4000000000000)";
    writer.execute_batch(insert).unwrap();
    let json = stats(&sandbox, &[]);
    assert_eq!(
        json["newest_event_at"], "1970-01-01T00:00:05.000Z",
        "the future is no event"
    );
    let length = |name| std::fs::metadata(sandbox.path(name)).unwrap().len();
    assert_eq!(json["file_bytes"], length("sessile.db"));
    assert_eq!(json["wal_bytes"], length("sessile.db-wal"));
    assert!(json["wal_bytes"].as_u64() > Some(0), "{json}");

    // Looking is no writing: with nobody else there, opening the file makes a new WAL and closing it removes that.
    drop(writer);
    let written = stats(&sandbox, &[])["written_at"].clone();
    assert_eq!(stats(&sandbox, &[])["written_at"], written);
}
