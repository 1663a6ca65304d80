//! `import`: every rule of the exchange, and that a fault anywhere writes nothing.

use std::collections::BTreeMap;

use rusqlite::types::Value;

use crate::support::{Sandbox, fixture};

pub const NOW: &str = "2026-11-23T12:00:00Z";
pub const NOW_MILLIS: i64 = 1_795_435_200_000;
const HOUR: i64 = 3_600_000;

/// Imports `input` at [`NOW`].
fn import(sandbox: &Sandbox, input: &str) -> crate::support::Ended {
    sandbox.run_with_input(&["import", "--at", NOW, "-"], input.as_bytes())
}

/// The one row of the file with `id`, its columns by name, without those that are NULL.
#[track_caller]
pub fn row(sandbox: &Sandbox, id: &str) -> BTreeMap<String, Value> {
    let connection = sandbox.sqlite();
    let mut select = connection
        .prepare("SELECT * FROM session WHERE id = ?1")
        .unwrap();
    let names: Vec<String> = select
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let row = select.query_row([id], |row| {
        names
            .iter()
            .enumerate()
            .map(|(i, _)| row.get(i))
            .collect::<Result<Vec<Value>, _>>()
    });
    names
        .into_iter()
        .zip(row.unwrap())
        .filter(|(_, value)| *value != Value::Null)
        .collect()
}

pub fn rows(sandbox: &Sandbox) -> i64 {
    sandbox
        .sqlite()
        .query_row("SELECT count(*) FROM session", [], |row| row.get(0))
        .unwrap()
}

/// A session with the fields that must be there, and `more`.
pub fn session(more: &str) -> String {
    format!(
        r#"{{"tenant_id":"t","id":"s","user_id":"u"{}{more}}}"#,
        if more.is_empty() { "" } else { "," }
    )
}

/// The instant in column `name` after importing a session with `more`, relative to now in milliseconds.
#[track_caller]
fn instant(more: &str, name: &str) -> Option<i64> {
    let sandbox = Sandbox::with_file();
    import(&sandbox, &session(more)).ok();
    match row(&sandbox, "s").get(name) {
        None => None,
        Some(Value::Integer(millis)) => Some(millis - NOW_MILLIS),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_reaches_its_column() {
    let sandbox = Sandbox::with_file();
    let full = session(
        r#""status":"active","created_at":"2026-04-15T08:00:00Z","authenticated_at":1776240001000,
        "last_active_at":"2026-04-15T10:00:02.5+02:00","expires_at":"9999-12-31T23:59:59Z","idle_expires_at":null,
        "revoked_at":"2026-04-15T09:00:00Z","revoke_reason":"r","amr":"password,totp","device_id":"d","device_type":"desktop",
        "ip":"192.168.1.1","user_agent":"ua","geoip":"Beijing, CN""#,
    );
    import(&sandbox, &full.replace('\n', " ")).ok();
    insta::assert_debug_snapshot!(row(&sandbox, "s"));
}

#[test]
fn instants_come_in_three_forms() {
    for (more, name, wanted) in [
        (
            r#""expires_at":"2026-11-23T13:00:00Z""#,
            "expires_at",
            Some(HOUR),
        ),
        (
            r#""expires_at":"2026-11-23T21:00:00.0019+08:00""#,
            "expires_at",
            Some(HOUR + 1),
        ),
        (r#""expires_at":1795438800000"#, "expires_at", Some(HOUR)),
        (r#""expires_in":"1h""#, "expires_at", Some(HOUR)),
        (r#""expires_in":"-1s""#, "expires_at", Some(-1_000)),
        (
            r#""expires_in":"1h","idle_expires_in":"90m""#,
            "idle_expires_at",
            Some(90 * 60_000),
        ),
        (r#""expires_in":"1h""#, "idle_expires_at", None),
        (
            r#""expires_in":"1h","created_ago":"30d""#,
            "created_at",
            Some(-30 * 24 * HOUR),
        ),
        (
            r#""expires_in":"2h","created_ago":"-1h""#,
            "created_at",
            Some(HOUR),
        ),
        (
            r#""expires_in":"1h","authenticated_ago":"1h""#,
            "authenticated_at",
            Some(-HOUR),
        ),
        (
            r#""expires_in":"1h","last_active_ago":"1ms""#,
            "last_active_at",
            Some(-1),
        ),
        (r#""expires_in":"1h""#, "created_at", Some(0)),
        (r#""expires_in":"-1h""#, "created_at", Some(-HOUR)),
        (
            r#""expires_in":"1h","authenticated_at":null"#,
            "authenticated_at",
            None,
        ),
    ] {
        assert_eq!(instant(more, name), wanted, "{more}");
    }
}

#[test]
fn what_ends_a_session() {
    for (more, wanted) in [
        (r#""expires_in":"1h""#, None),
        (r#""expires_in":"1h","status":"active""#, None),
        (r#""expires_in":"1h","status":null"#, None),
        (r#""expires_in":"1h","status":"revoked""#, Some(0)),
        (r#""expires_in":"1h","status":"Active""#, Some(0)),
        (r#""expires_in":"1h","status":"""#, Some(0)),
        (
            r#""expires_in":"1h","status":"revoked","revoked_at":"2026-11-23T11:00:00Z""#,
            Some(-HOUR),
        ),
        (
            r#""expires_in":"1h","status":"active","revoked_at":"2026-11-23T13:00:00Z""#,
            Some(HOUR),
        ),
    ] {
        assert_eq!(instant(more, "revoked_at"), wanted, "{more}");
    }
}

/// Every fault of an input is told, and nothing of it is written.
#[test]
fn every_fault_is_told_with_its_place() {
    let sandbox = Sandbox::with_file();
    let long = "x".repeat(257);
    let lines = [
        session(r#""expires_in":"1h""#),
        "{}".to_owned(),
        r#"{"tenant_id":"a b","id":"","user_id":"\u0000","expires_at":"tomorrow"}"#.to_owned(),
        format!(r#"{{"tenant_id":7,"id":"{long}","user_id":["u"],"expires_at":1795438800}}"#),
        session(r#""expires_at":-1,"created_at":1.5"#).replace("\"s\"", "\"s2\""),
        session(r#""expires_at":1795438800000,"expires_in":"1h""#).replace("\"s\"", "\"s3\""),
        session(r#""expires_in":"soon","created_ago":5"#).replace("\"s\"", "\"s4\""),
        session(r#""expires_in":"1h","created_at":"2027-01-01T00:00:00Z""#)
            .replace("\"s\"", "\"s5\""),
        session(r#""expires_in":"-60000d""#).replace("\"s\"", "\"s6\""),
        session(r#""expires_in":"1h","expires_in":"2h","status":true,"ip":{}"#)
            .replace("\"s\"", "\"s7\""),
        session(r#""expires_at":99999999999999999999"#).replace("\"s\"", "\"s8\""),
        String::new(),
        "[]".to_owned(),
        "{\"id\":".to_owned(),
        r#"{"id":"x"} trailing"#.to_owned(),
        session(r#""expires_in":"1h""#),
    ];
    let error = import(&sandbox, &lines.join("\n")).failed(2);
    assert_eq!(rows(&sandbox), 0);
    insta::assert_snapshot!(error);
}

#[test]
fn an_export_is_told_by_index() {
    let sandbox = Sandbox::with_file();
    let export = format!(
        r#"{{"total":3,"sessions":[{},{},{{"id":"x"}}]}}"#,
        session(r#""expires_in":"1h""#),
        session(r#""expires_in":"x""#).replace("\"s\"", "\"s2\""),
    );
    let error = import(&sandbox, &export).failed(2);
    assert!(
        error.contains("sessions[1]: expires_in: found \"x\""),
        "{error}"
    );
    assert!(
        error.contains("sessions[2]: tenant_id: found nothing"),
        "{error}"
    );
    assert!(
        error.ends_with("4 faults in 3 sessions; nothing was written\n"),
        "{error}"
    );
    assert_eq!(rows(&sandbox), 0);
}

#[test]
fn a_truncated_export_writes_nothing() {
    let sandbox = Sandbox::with_file();
    let whole = std::fs::read_to_string(fixture("export.json")).unwrap();
    for end in [1, 20, whole.len() / 2, whole.len() - 3] {
        let error = import(&sandbox, &whole[..end]).failed(2);
        assert!(error.contains("nothing was written"), "{error}");
        assert_eq!(rows(&sandbox), 0);
    }
}

#[test]
fn faults_over_a_hundred_are_counted() {
    let sandbox = Sandbox::with_file();
    let bad = "{\"tenant_id\":\"t\",\"id\":\"s\",\"expires_in\":\"1h\"}\n";
    let error = import(&sandbox, &bad.repeat(150)).failed(2);
    assert_eq!(
        error
            .lines()
            .filter(|line| line.starts_with("line "))
            .count(),
        100
    );
    assert!(
        error
            .ends_with("… and 50 more\nsessile: 150 faults in 150 sessions; nothing was written\n"),
        "{error}"
    );
}

#[test]
fn both_shapes_are_told_apart_by_content() {
    let one = session(r#""expires_in":"1h""#);
    let pretty = format!(
        "{{\n  \"exported_by\": \"x\",\n  \"sessions\": [\n    {one}\n  ],\n  \"total\": 1\n}}\n"
    );
    for (input, count) in [
        (one.clone(), 1),
        (format!("{one}\n"), 1),
        (format!("\u{feff}{one}\r\n\r\n"), 1),
        (format!("\n\n  {one}\n"), 1),
        (format!(r#"{{"sessions":[{one}],"total":1}}"#), 1),
        (format!(r#"{{"total":1,"sessions":[{one}]}}"#), 1),
        (pretty.clone(), 1),
        (
            session(&format!(
                r#""expires_in":"1h","user_agent":"{}""#,
                "x".repeat(70_000)
            )),
            1,
        ),
        (format!("\u{feff}\n{pretty}\n\n"), 1),
        (r#"{"sessions":[]}"#.to_owned(), 0),
        (r#"{"sessions":null,"total":0}"#.to_owned(), 0),
        (String::new(), 0),
        (
            format!(r#"{{"sessions":[{}"#, format!("{one},").repeat(0))
                + &" ".repeat(70_000)
                + &one
                + "]}",
            1,
        ),
    ] {
        let sandbox = Sandbox::with_file();
        import(&sandbox, &input).ok();
        assert_eq!(rows(&sandbox), count, "{}", &input[..input.len().min(100)]);
    }
}

#[test]
fn what_is_no_input_is_said_to_be_none() {
    for input in [
        "[]",
        "nonsense",
        "{\"sessions\":{}}",
        "{\"sessions\":[]} x",
        "{\"sessions\":[],\"sessions\":[]}",
        "{\n\"id\":\"x\"\n}",
        "\u{0}",
    ] {
        let sandbox = Sandbox::with_file();
        let error = import(&sandbox, input).failed(2);
        assert!(error.contains("nothing was written"), "{input}: {error}");
    }
}

#[test]
fn unknown_fields_are_one_warning_a_name() {
    let sandbox = Sandbox::with_file();
    let lines: String = (0..3)
        .map(|number| {
            session(r#""expires_in":"1h","color":"red","shape":{"a":[1,{"b":2}]}"#)
                .replace("\"s\"", &format!("\"{number}\""))
                + "\n"
        })
        .collect();
    let ended = import(&sandbox, &lines);
    assert_eq!(
        ended.stderr,
        "sessile: warning: the field \"color\" is not known and was ignored, 3×\n\
         sessile: warning: the field \"shape\" is not known and was ignored, 3×\n"
    );
    assert_eq!(ended.code, Some(0));
    assert_eq!(rows(&sandbox), 3);
}

/// An export that was cut short and mended by hand, or one page of several.
#[test]
fn a_wrong_total_is_taken_by_force_only() {
    for total in [0, 2] {
        let sandbox = Sandbox::with_file();
        let export = format!(
            r#"{{"sessions":[{}],"total":{total}}}"#,
            session(r#""expires_in":"1h""#)
        );
        let error = import(&sandbox, &export).failed(2);
        assert_eq!(
            error,
            format!(
                "sessile: total: found {total} beside 1 session; allowed: their number, or --force for an \
                 export that is not whole. Nothing was written\n"
            )
        );
        assert_eq!(rows(&sandbox), 0);
        let forced = sandbox.run_with_input(&["import", "--force", "-"], export.as_bytes());
        assert_eq!(
            (forced.code, forced.stderr.as_str()),
            (
                Some(0),
                &*format!("sessile: warning: total is {total}, beside 1 session\n")
            )
        );
        assert_eq!(rows(&sandbox), 1);
    }
}

#[test]
fn a_dry_run_says_all_and_writes_nothing() {
    let sandbox = Sandbox::with_file();
    let path = fixture("export.json");
    let said = sandbox
        .run(&["import", "--at", NOW, "--dry-run", path.to_str().unwrap()])
        .ok();
    assert_eq!(
        said,
        "would import 1500 sessions into sessile.db: 1500 new, 0 replaced; 1075 came active, 425 ended\n"
    );
    assert_eq!(rows(&sandbox), 0);
    let error = sandbox
        .run_with_input(&["import", "--dry-run", "-"], b"{}")
        .failed(2);
    assert!(error.contains("line 1: id: found nothing"), "{error}");
}

#[test]
fn a_row_is_replaced_every_field() {
    let sandbox = Sandbox::with_file();
    import(
        &sandbox,
        &session(
            r#""expires_in":"1h","ip":"1.1.1.1","idle_expires_in":"1h","last_active_ago":"1s""#,
        ),
    )
    .ok();
    let said = import(&sandbox, &session(r#""expires_in":"2h","geoip":"here""#)).ok();
    assert!(said.contains("0 new, 1 replaced"), "{said}");
    let row = row(&sandbox, "s");
    let names: Vec<&str> = row.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "created_at",
            "expires_at",
            "geoip",
            "id",
            "tenant_id",
            "user_id"
        ]
    );
    assert_eq!(row["expires_at"], Value::Integer(NOW_MILLIS + 2 * HOUR));
}

#[test]
fn the_reason_of_a_live_session_is_replaced_like_any_field() {
    let sandbox = Sandbox::with_file();
    import(
        &sandbox,
        &session(r#""expires_in":"1h","revoke_reason":"a""#),
    )
    .ok();
    import(
        &sandbox,
        &session(r#""expires_in":"1h","revoke_reason":"b""#),
    )
    .ok();
    assert_eq!(
        row(&sandbox, "s")["revoke_reason"],
        Value::Text("b".to_owned())
    );
    import(&sandbox, &session(r#""expires_in":"1h""#)).ok();
    assert_eq!(row(&sandbox, "s").get("revoke_reason"), None);
}

#[test]
fn an_older_export_never_revives_a_session() {
    let at = |instant: &str, reason: &str| {
        session(&format!(
            r#""expires_in":"1h","revoked_at":"{instant}","revoke_reason":{reason}"#
        ))
    };
    let alive = session(r#""expires_in":"1h""#);
    let (early, late) = ("2026-11-23T10:00:00.000Z", "2026-11-23T11:00:00.000Z");
    for (first, second, end, reason) in [
        (at(late, "\"a\""), alive.clone(), late, Some("a")),
        (at(late, "\"a\""), at(early, "\"b\""), early, Some("b")),
        (at(early, "\"a\""), at(late, "\"b\""), early, Some("a")),
        (at(early, "null"), at(late, "\"b\""), early, None),
        (at(late, "\"a\""), at(early, "null"), early, None),
        (at(late, "\"a\""), at(late, "\"b\""), late, Some("a")),
        (at(late, "null"), at(late, "\"b\""), late, Some("b")),
        (at(late, "\"a\""), at(late, "null"), late, Some("a")),
        (alive.clone(), at(late, "\"b\""), late, Some("b")),
        (
            at(late, "\"a\""),
            session(r#""expires_in":"1h","status":"revoked""#),
            late,
            Some("a"),
        ),
    ] {
        let sandbox = Sandbox::with_file();
        import(&sandbox, &first).ok();
        import(&sandbox, &second).ok();
        let row = row(&sandbox, "s");
        let end = sessile::time::Timestamp::parse_rfc3339(end)
            .unwrap()
            .as_millis();
        assert_eq!(
            row["revoked_at"],
            Value::Integer(end),
            "{first} then {second}"
        );
        assert_eq!(
            row.get("revoke_reason"),
            reason.map(|reason| Value::Text(reason.to_owned())).as_ref()
        );
    }
}

#[test]
fn a_session_keeps_its_user() {
    let sandbox = Sandbox::with_file();
    import(&sandbox, &session(r#""expires_in":"1h""#)).ok();
    let stolen = session(r#""expires_in":"9h""#).replace("\"u\"", "\"thief\"");
    let error = import(&sandbox, &stolen).failed(2);
    assert!(
        error.contains(
            "line 1: user_id: found \"thief\"; allowed: \"u\", whose session \"s\" is in the file"
        ),
        "{error}"
    );
    assert_eq!(
        row(&sandbox, "s")["expires_at"],
        Value::Integer(NOW_MILLIS + HOUR)
    );
    let other_tenant = stolen.replace("\"t\"", "\"t2\"");
    import(&sandbox, &other_tenant).ok();
}

#[test]
fn an_id_twice_in_one_input_is_a_fault() {
    for seeded in [false, true] {
        let sandbox = Sandbox::with_file();
        if seeded {
            import(&sandbox, &session(r#""expires_in":"1h""#)).ok();
        }
        let twice = [
            session(r#""expires_in":"2h""#),
            session(r#""expires_in":"2h""#),
        ]
        .join("\n");
        let error = import(&sandbox, &twice).failed(2);
        assert!(
            error.contains("line 2: id: found \"s\" of tenant t for the second time"),
            "{error}"
        );
        assert_eq!(rows(&sandbox), i64::from(seeded));
    }
}

#[test]
fn a_line_over_a_mebibyte_is_a_fault_of_its_own() {
    let sandbox = Sandbox::with_file();
    let long = session(&format!(
        r#""expires_in":"1h","user_agent":"{}""#,
        "x".repeat(1 << 20)
    ));
    let input = [session(r#""expires_in":"1h""#), long, session("")].join("\n");
    let error = import(&sandbox, &input).failed(2);
    let lines: Vec<&str> = error.lines().collect();
    assert!(
        lines[0].starts_with("line 2: found a line of more than 1048576 bytes"),
        "{error}"
    );
    assert!(
        lines[1].starts_with("line 3: expires_at: found neither it nor expires_in"),
        "{error}"
    );
}

/// The rows of the audit, without their instants.
pub fn audit(sandbox: &Sandbox) -> Vec<(String, String, Option<String>, i64)> {
    let connection = sandbox.sqlite();
    let mut select = connection
        .prepare("SELECT os_user, command, tenant_id, sessions FROM sessile_audit ORDER BY id")
        .unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get_unwrap(0),
            row.get_unwrap(1),
            row.get_unwrap(2),
            row.get_unwrap(3),
        ))
    };
    select
        .query_map([], row)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn an_import_that_was_committed_is_in_the_audit() {
    let sandbox = Sandbox::with_file();
    import(&sandbox, "{}").failed(2);
    sandbox
        .run_with_input(
            &["import", "--dry-run", "-"],
            session(r#""expires_in":"1h""#).as_bytes(),
        )
        .ok();
    assert_eq!(audit(&sandbox), []);
    import(&sandbox, &session(r#""expires_in":"1h""#)).ok();
    let user = std::process::Command::new("id")
        .arg("-run")
        .output()
        .unwrap();
    let user = String::from_utf8(user.stdout)
        .unwrap()
        .trim_end()
        .to_owned();
    assert_eq!(audit(&sandbox), [(user, "import".to_owned(), None, 1)]);
}
