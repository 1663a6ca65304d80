//! `schema.sql`, the public contract of the file: what stock SQLite can do with it, and what it refuses.

use std::fs;
use std::process::{Command, Stdio};

use rusqlite::Connection;

use crate::support::{Sandbox, skipped};

const SCHEMA: &str = include_str!("../../schema.sql");

fn made() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection
}

/// A row of which `columns` are replaced.
fn insert(connection: &Connection, columns: &[(&str, &str)]) -> Result<usize, String> {
    let mut row = vec![
        ("tenant_id", "'t'"),
        ("id", "'s'"),
        ("user_id", "'u'"),
        ("created_at", "1000"),
        ("expires_at", "2000"),
    ];
    for (name, value) in columns {
        row.retain(|(column, _)| column != name);
        row.push((name, value));
    }
    let (names, values): (Vec<&str>, Vec<&str>) = row.into_iter().unzip();
    let sql = format!(
        "INSERT INTO session ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    );
    connection
        .execute(&sql, [])
        .map_err(|error| error.to_string())
}

#[test]
fn nonsense_is_refused_by_name() {
    let connection = made();
    for (columns, reason) in [
        (
            &[("tenant_id", "''")][..],
            "tenant_id_is_1_to_128_characters",
        ),
        (
            &[("tenant_id", "printf('%0129d', 0)")],
            "tenant_id_is_1_to_128_characters",
        ),
        (&[("id", "''")], "id_is_1_to_256_characters"),
        (
            &[("id", "printf('%0257d', 0)")],
            "id_is_1_to_256_characters",
        ),
        (&[("user_id", "''")], "user_id_is_1_to_256_characters"),
        (
            &[("user_id", "printf('%0257d', 0)")],
            "user_id_is_1_to_256_characters",
        ),
        (
            &[("user_id", "NULL")],
            "NOT NULL constraint failed: session.user_id",
        ),
        (
            &[("tenant_id", "NULL")],
            "NOT NULL constraint failed: session.tenant_id",
        ),
        (&[("id", "NULL")], "NOT NULL constraint failed: session.id"),
        (
            &[("created_at", "NULL")],
            "NOT NULL constraint failed: session.created_at",
        ),
        (
            &[("expires_at", "NULL")],
            "NOT NULL constraint failed: session.expires_at",
        ),
        (&[("created_at", "-1")], "created_at_is_not_negative"),
        (
            &[("authenticated_at", "-1")],
            "authenticated_at_is_not_negative",
        ),
        (
            &[("last_active_at", "-1")],
            "last_active_at_is_not_negative",
        ),
        (
            &[("idle_expires_at", "-1")],
            "idle_expires_at_is_not_negative",
        ),
        (&[("revoked_at", "-1")], "revoked_at_is_not_negative"),
        (
            &[("created_at", "-2"), ("expires_at", "-1")],
            "is_not_negative",
        ),
        (
            &[("expires_at", "999")],
            "expires_at_is_not_before_created_at",
        ),
        (
            &[("expires_at", "2000.5")],
            "cannot store REAL value in INTEGER column session.expires_at",
        ),
        (
            &[("expires_at", "'tomorrow'")],
            "cannot store TEXT value in INTEGER column session.expires_at",
        ),
        (
            &[("user_id", "x'41'")],
            "cannot store BLOB value in TEXT column session.user_id",
        ),
    ] {
        let error = insert(&connection, columns).unwrap_err();
        assert!(error.contains(reason), "{columns:?}: {error}");
    }
}

#[test]
fn what_real_data_has_is_taken() {
    let connection = made();
    for (number, columns) in [
        &[
            ("user_id", "printf('%0256d', 0)"),
            ("tenant_id", "printf('%0128d', 0)"),
        ][..],
        &[("user_id", "'名字😀'")],
        &[("expires_at", "1000")],
        &[("created_at", "0"), ("expires_at", "0")],
        &[("expires_at", "9223372036854775807")],
        &[
            ("authenticated_at", "5"),
            ("last_active_at", "4"),
            ("idle_expires_at", "3"),
            ("revoked_at", "2"),
        ],
        &[
            ("created_at", "9000000000000"),
            ("expires_at", "9000000000000"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("'{number}'");
        let columns: Vec<_> = columns
            .iter()
            .copied()
            .chain([("id", id.as_str())])
            .collect();
        assert_eq!(insert(&connection, &columns), Ok(1), "{columns:?}");
    }
}

/// The statements in the comments of `schema.sql`, each ending in a semicolon at the end of its line.
fn examples() -> Vec<String> {
    let code = SCHEMA
        .lines()
        .filter_map(|line| line.strip_prefix("--     "))
        .filter(|line| !line.starts_with("sqlite3 "))
        .collect::<Vec<_>>()
        .join("\n");
    code.split_inclusive(';')
        .map(|statement| {
            match ["INSERT", "UPDATE"]
                .iter()
                .find_map(|verb| statement.find(verb))
            {
                Some(start) => statement[start..].to_owned(),
                None => String::new(),
            }
        })
        .filter(|statement| !statement.is_empty())
        .collect()
}

const NOW: &str = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)";

#[test]
fn the_examples_do_what_they_say() {
    assert!(SCHEMA.contains(NOW));
    let sandbox = Sandbox::with_file();
    let [login, activity, logout, logout_all] = examples().try_into().unwrap();
    let check = || {
        sandbox
            .run(&["check", "--tenant", "tnt_xyz789", "usr_abc123"])
            .stdout
    };
    let run = |sql: &str| sandbox.sqlite3(&sql.replace(":now", NOW));

    if run(&login).is_none() {
        return; // the reason is printed
    }
    assert_eq!(check(), "active: 1 session\n");
    run(&activity);
    assert_eq!(check(), "active: 1 session\n");
    run(&logout);
    assert_eq!(check(), "inactive: 0 sessions\n");
    run(&login);
    assert_eq!(
        check(),
        "inactive: 0 sessions\n",
        "an ended session stays ended"
    );
    run(&login.replace("sess_abc123", "sess_2"));
    run(&login.replace("sess_abc123", "sess_3"));
    assert_eq!(check(), "active: 2 sessions\n");
    run(&logout_all);
    assert_eq!(check(), "inactive: 0 sessions\n");

    let text = sandbox
        .sqlite3("SELECT max(created_at) FROM session")
        .unwrap();
    let created: i64 = text.trim().parse().unwrap();
    let age = sessile::time::Timestamp::now().as_millis() - created;
    assert!((0..60_000).contains(&age), "now in SQL is {age} ms off");
}

#[test]
fn stock_sqlite3_makes_a_file_that_is_answered_from() {
    let sandbox = Sandbox::new();
    let schema = fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.sql")).unwrap();
    let made = Command::new("sqlite3")
        .arg("-bail")
        .arg(sandbox.database())
        .stdin(schema)
        .stdout(Stdio::null())
        .status();
    match made {
        Err(error) => skipped(&format!("the stock sqlite3 can't be run here: {error}")),
        Ok(status) => {
            assert!(status.success());
            assert_eq!(
                sandbox.run(&["check", "--tenant", "t", "u"]).stdout,
                "inactive: 0 sessions\n"
            );
            assert!(sandbox.run(&["init"]).ok().contains("already"));
        }
    }
}
