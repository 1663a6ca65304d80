//! `import` of CSV: the same rules as for JSON, over the same rows.

use std::fs;

use rusqlite::types::Value;

use crate::import::{NOW, NOW_MILLIS, row, rows};
use crate::support::{Ended, Sandbox, fixture};

const HOUR: i64 = 3_600_000;

fn import(sandbox: &Sandbox, args: &[&str], input: &str) -> Ended {
    let args: Vec<&str> = ["import", "--at", NOW, "-"]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    sandbox.run_with_input(&args, input.as_bytes())
}

#[test]
fn every_column_reaches_its_field() {
    let sandbox = Sandbox::with_file();
    let input = "\u{feff}id,tenant_id,user_id,status,created_at,authenticated_at,last_active_at,expires_at,idle_expires_in,\
                 revoked_at,revoke_reason,amr,device_id,device_type,ip,user_agent,geoip\r\n\
                 s,t,u,revoked,2026-04-15T08:00:00Z,1776240001000,2026-04-15T10:00:02.5+02:00,9999-12-31T23:59:59Z,,\
                 2026-04-15T09:00:00Z,\"a \"\"b\"\",\r\nc\",\"password,totp\",007,,1.1.1.1, x ,\"\"\r\n";
    import(&sandbox, &[], input).ok();
    insta::assert_debug_snapshot!(row(&sandbox, "s"));
}

#[test]
fn relative_instants_and_absent_cells() {
    let sandbox = Sandbox::with_file();
    // Columns in any order, blank lines, no line end behind the last row, a quoted empty cell where none is meant.
    let input = "expires_in,user_id,status,tenant_id,id,idle_expires_at,ip\n\n1h,u,\"\",t,a,\"\",\n\n-1s,u,,t,b,,\"\"";
    import(&sandbox, &[], input).ok();
    let a = row(&sandbox, "a");
    assert_eq!(a["expires_at"], Value::Integer(NOW_MILLIS + HOUR));
    assert!(!a.contains_key("revoked_at") && !a.contains_key("idle_expires_at"));
    assert!(!a.contains_key("ip"));
    let b = row(&sandbox, "b");
    assert_eq!(b["expires_at"], Value::Integer(NOW_MILLIS - 1_000));
    assert_eq!(b["ip"], Value::Text(String::new()));
}

#[test]
fn every_fault_is_told_with_its_line() {
    let sandbox = Sandbox::with_file();
    let long = "x".repeat(257);
    let mut input = format!(
        "id,tenant_id,user_id,expires_at,ip\n\
         s,t,u,2026-12-01T00:00:00Z,\n\
         ,a b,\u{7},tomorrow,\n\
         \n\
         {long},t,u,1795438800,\"a\nb\"\n\
         x,t,u\n\
         x,t,u,1.5,,\n\
         s,t,u,2026-12-01T00:00:00Z,\n"
    )
    .into_bytes();
    input.extend_from_slice(b"y,t,u,2026-12-01T00:00:00Z,\xff\n");
    let error = sandbox
        .run_with_input(&["import", "--at", NOW, "-"], &input)
        .failed(2);
    assert_eq!(rows(&sandbox), 0);
    insta::assert_snapshot!(error);
}

#[test]
fn a_header_that_can_make_no_session_is_a_fault() {
    for (header, args, wanted) in [
        (
            "nonsense",
            &[][..],
            "line 1: id: found no column of it; allowed: a header with a column called \"id\"",
        ),
        (
            "\n\nid,user_id,expires_at",
            &[],
            "line 3: tenant_id: found no column of it",
        ),
        (
            "id,user_id,expires_at,id",
            &["--tenant", "t"],
            "line 1: id: found two columns of it",
        ),
        (
            "id,user_id",
            &["--tenant", "t"],
            "line 1: expires_at: found no column of it",
        ),
        (
            "id,user_id,expires_at",
            &["--tenant", "t", "--map", "user_id=uid"],
            "a column called \"uid\"",
        ),
        ("\"id", &[], "line 1: id: found no column"),
    ] {
        let sandbox = Sandbox::with_file();
        let error = import(&sandbox, args, &format!("{header}\n1,2,3,4\n")).failed(2);
        assert!(
            error.contains(wanted) && error.contains("nothing was written"),
            "{header}: {error}"
        );
    }
}

#[test]
fn a_quote_that_is_never_closed_does_not_fill_the_memory() {
    let sandbox = Sandbox::with_file();
    let input = format!(
        "id,tenant_id,user_id,expires_in\n1,t,u,1h\n2,t,\"u,1h\n{}",
        "3,t,u,1h\n".repeat(200_000)
    );
    let error = import(&sandbox, &[], &input).failed(2);
    assert!(
        error.starts_with("line 3: found a row of more than 1048576 bytes"),
        "{error}"
    );
    assert_eq!(rows(&sandbox), 0);
}

#[test]
fn other_names_and_a_tenant_for_all() {
    let sandbox = Sandbox::with_file();
    let args = [
        "--tenant",
        "acme",
        "--map",
        "user_id=uid",
        "--map",
        "id= session",
        "--map",
        "ip=user_id",
    ];
    let error = import(&sandbox, &args, "uid,session,expires_in\n").failed(2);
    assert!(error.contains("a column called \" session\""), "{error}");
    let args = [
        "--tenant",
        "acme",
        "--map",
        "user_id=uid",
        "--map",
        "id=session",
        "--map",
        "ip=user_id",
    ];
    let ended = import(
        &sandbox,
        &args,
        "uid,session,expires_in,user_id,color\nu,s,1h,1.1.1.1,red\n",
    );
    assert_eq!(
        ended.stderr,
        "sessile: warning: the field \"color\" is not known and was ignored, 1×\n"
    );
    ended.ok();
    let row = row(&sandbox, "s");
    assert_eq!(row["tenant_id"], Value::Text("acme".to_owned()));
    assert_eq!(row["user_id"], Value::Text("u".to_owned()));
    assert_eq!(row["ip"], Value::Text("1.1.1.1".to_owned()));
    // JSON has other names just as well.
    let json = "{\"session\":\"s2\",\"uid\":\"u\",\"expires_in\":\"1h\"}";
    import(&sandbox, &args, json).ok();
    assert_eq!(rows(&sandbox), 2);
}

#[test]
fn a_session_of_another_tenant_than_was_asked_for_is_a_fault() {
    let sandbox = Sandbox::with_file();
    let input = "id,user_id,expires_in,tenant_id\na,u,1h,acme\nb,u,1h,\nc,u,1h,globex\n";
    let error = import(&sandbox, &["--tenant", "acme"], input).failed(2);
    assert_eq!(
        error,
        "line 4: tenant_id: found \"globex\"; allowed: acme, the tenant that was asked for, or none\n\
         sessile: 1 fault in 3 sessions; nothing was written\n"
    );
}

#[test]
fn a_shape_can_be_told() {
    let sandbox = Sandbox::with_file();
    let csv = "{id},tenant_id,user_id,expires_in\ns,t,u,1h\n";
    assert!(
        import(&sandbox, &[], csv)
            .failed(2)
            .contains("allowed: one session object a line")
    );
    import(&sandbox, &["--format", "csv", "--map", "id={id}"], csv).ok();
    let error = import(&sandbox, &["--format", "upstream"], "id,tenant_id").failed(2);
    assert!(
        error.starts_with("input: line 1, column 1: expected value"),
        "{error}"
    );
    let error = import(&sandbox, &["--format", "ndjson"], "id,tenant_id").failed(2);
    assert!(
        error.starts_with("line 1: column 1: expected value"),
        "{error}"
    );
}

/// The oracle's sessions as another program would write them: each field a column, all of them quoted.
pub fn sessions_as_csv() -> String {
    const COLUMNS: [&str; 17] = [
        "geoip",
        "user_agent",
        "ip",
        "device_type",
        "device_id",
        "amr",
        "revoke_reason",
        "revoked_at",
        "idle_expires_at",
        "expires_at",
        "last_active_at",
        "authenticated_at",
        "created_at",
        "status",
        "user_id",
        "tenant_id",
        "id",
    ];
    let mut csv = COLUMNS.join(",") + "\r\n";
    for line in fs::read_to_string(fixture("sessions.ndjson"))
        .unwrap()
        .lines()
    {
        let session: serde_json::Value = serde_json::from_str(line).unwrap();
        let names = session.as_object().unwrap().keys();
        for name in names {
            assert!(COLUMNS.contains(&name.as_str()), "the fixture has {name}");
        }
        let cells = COLUMNS.map(|name| match &session[name] {
            serde_json::Value::Null => String::new(),
            value => format!("\"{}\"", value.as_str().unwrap().replace('"', "\"\"")),
        });
        csv += &(cells.join(",") + "\r\n");
    }
    csv
}
