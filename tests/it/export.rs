//! `export`: what comes out goes in again as it was, field for field.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use rusqlite::types::Value;

use crate::import::NOW;
use crate::support::{Sandbox, fixture, rows};

const FORMATS: [&str; 3] = ["ndjson", "csv", "upstream"];

/// Every row of the file, every column, in the order of the rows.
fn all(sandbox: &Sandbox) -> Vec<Vec<Value>> {
    rows(
        &sandbox.sqlite(),
        "SELECT rowid, * FROM session ORDER BY rowid",
    )
}

/// What another file has after it took the export in.
fn through(sandbox: &Sandbox, format: &str) -> Vec<Vec<Value>> {
    let exported = sandbox.run(&["export", "--format", format]).ok();
    let other = Sandbox::with_file();
    other
        .run_with_input(&["import", "-"], exported.as_bytes())
        .ok();
    all(&other)
}

#[test]
fn the_vectors_come_back_as_they_were() {
    let sandbox = Sandbox::with_file();
    sandbox
        .run(&[
            "import",
            "--at",
            NOW,
            fixture("export.json").to_str().unwrap(),
        ])
        .ok();
    let rows = all(&sandbox);
    assert_eq!(rows.len(), 1_500);
    for format in FORMATS {
        assert_eq!(through(&sandbox, format), rows, "{format}");
    }
}

/// A text that a program may stumble over.
fn awkward() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\"\"".to_owned()),
        Just("null".to_owned()),
        Just(" , ".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{feff}{\"sessions\":[".to_owned()),
        Just("1795435200000".to_owned()),
        "[\\PC\r\n\t\"',;{}\\\\\u{0}-\u{1f}\u{2028}\u{1f600}]{0,12}",
    ]
}

fn id() -> impl Strategy<Value = String> {
    "[\\PC\"', \\\\]{1,8}".prop_filter("no control character", |text| {
        !text.contains(char::is_control)
    })
}

fn instant() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(99_999_999_999),
        Just(253_402_300_799_999),
        Just(253_402_300_800_000),
        Just(i64::MAX),
        0..4_000_000_000_000i64,
    ]
}

type Columns = (
    (String, String),
    [Option<i64>; 4],
    (i64, i64),
    [Option<String>; 7],
);

fn columns() -> impl Strategy<Value = Columns> {
    let optional = || proptest::option::of(instant());
    let text = || proptest::option::of(awkward());
    (
        ("[!-~]{1,8}", id()),
        [optional(), optional(), optional(), optional()],
        (instant(), instant()).prop_map(|(one, other)| (one.min(other), one.max(other))),
        [text(), text(), text(), text(), text(), text(), text()],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn awkward_values_come_back_as_they_were(rows in proptest::collection::vec(columns(), 1..40)) {
        let sandbox = Sandbox::with_file();
        {
            let connection = sandbox.sqlite();
            let mut insert = connection
                .prepare(&format!("INSERT INTO session VALUES (?1{})", ",?".repeat(15)))
                .unwrap();
            for (number, ((tenant, user), instants, (created, expires), texts)) in rows.into_iter().enumerate() {
                let [authenticated, active, idle, revoked] = instants.map(|instant| instant.map_or(Value::Null, Value::Integer));
                let mut values = vec![
                    Value::Text(tenant),
                    Value::Text(format!("{number} {user}")),
                    Value::Text(user),
                    Value::Integer(created),
                    authenticated,
                    active,
                    Value::Integer(expires),
                    idle,
                    revoked,
                ];
                values.extend(texts.map(|text| text.map_or(Value::Null, Value::Text)));
                insert.execute(rusqlite::params_from_iter(values)).unwrap();
            }
        }
        let rows = all(&sandbox);
        for format in FORMATS {
            prop_assert_eq!(&through(&sandbox, format), &rows, "{}", format);
        }
    }
}

fn three_users() -> Sandbox {
    let sandbox = Sandbox::with_file();
    let lines: String = [("t", "a", "u"), ("t", "b", "v"), ("t2", "a", "u"), ("t", "c", "u")]
        .iter()
        .enumerate()
        .map(|(hour, (tenant, id, user))| {
            format!(
                "{{\"tenant_id\":\"{tenant}\",\"id\":\"{id}\",\"user_id\":\"{user}\",\"expires_in\":\"{hour}h\",\
                 \"created_ago\":\"1h\"}}\n"
            )
        })
        .collect();
    sandbox
        .run_with_input(&["import", "--at", NOW, "-"], lines.as_bytes())
        .ok();
    sandbox
        .sqlite()
        .execute_batch(
            "UPDATE session SET revoked_at = expires_at, revoke_reason = 'a, b' WHERE id = 'b'",
        )
        .unwrap();
    sandbox
}

#[test]
fn the_shapes_look_like_this() {
    let sandbox = three_users();
    let shown: Vec<String> = FORMATS
        .iter()
        .map(|format| {
            sandbox
                .run(&["export", "--tenant", "t", "--format", format])
                .ok()
        })
        .collect();
    insta::assert_snapshot!(shown.join("--\n"));
    assert_eq!(Sandbox::with_file().run(&["export"]).ok(), "");
    assert_eq!(
        Sandbox::with_file()
            .run(&["export", "--format", "upstream"])
            .ok(),
        "{\"sessions\":[\n],\"total\":0}\n"
    );
}

#[test]
fn by_tenant_and_by_user() {
    let sandbox = three_users();
    let ids = |args: &[&str]| -> Vec<String> {
        let args: Vec<&str> = ["export"].iter().chain(args).copied().collect();
        let lines = sandbox.run(&args).ok();
        lines
            .lines()
            .map(|line| {
                let session: serde_json::Value = serde_json::from_str(line).unwrap();
                format!(
                    "{}/{}",
                    session["tenant_id"].as_str().unwrap(),
                    session["id"].as_str().unwrap()
                )
            })
            .collect()
    };
    assert_eq!(ids(&[]), ["t/a", "t/b", "t2/a", "t/c"]);
    assert_eq!(ids(&["--tenant", "t"]), ["t/a", "t/b", "t/c"]);
    assert_eq!(ids(&["--tenant", "t", "--user", "u"]), ["t/a", "t/c"]);
    assert_eq!(
        ids(&["--tenant", "t", "--user", "-u"]),
        Vec::<String>::new()
    );
    assert!(
        sandbox
            .run(&["export", "--user", "u"])
            .failed(2)
            .contains("--tenant")
    );
}

#[test]
fn a_file_is_there_whole_or_as_it_was() {
    let sandbox = three_users();
    let said = sandbox.run(&["export", "-o", "out.ndjson"]).ok();
    assert_eq!(said, "exported 4 sessions to out.ndjson\n");
    let exported = fs::read_to_string(sandbox.path("out.ndjson")).unwrap();
    assert_eq!(exported, sandbox.run(&["export"]).ok());
    let mode = fs::metadata(sandbox.path("out.ndjson"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "for its owner alone: {mode:o}");
    let said = sandbox
        .run(&["export", "--tenant", "t2", "-o", "out.ndjson", "--json"])
        .ok();
    assert_eq!(said, "{\"file\":\"out.ndjson\",\"sessions\":1}\n");

    // Text that is none is the file's fault, and nothing comes out of it.
    sandbox
        .sqlite()
        .execute_batch("UPDATE session SET ip = CAST(x'ff' AS TEXT) WHERE id = 'c'")
        .unwrap();
    let before = fs::read(sandbox.path("out.ndjson")).unwrap();
    let error = sandbox.run(&["export", "-o", "out.ndjson"]).failed(4);
    assert!(
        error.contains("tenant \"t\"") && error.contains("\"c\"") && error.contains("ip"),
        "{error}"
    );
    assert_eq!(fs::read(sandbox.path("out.ndjson")).unwrap(), before);
    let left: Vec<_> = fs::read_dir(sandbox.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_str().unwrap().starts_with(".tmp")),
        "{left:?}"
    );

    let error = sandbox.run(&["export", "-o", "no/such/folder/x"]).failed(2);
    assert!(error.contains("can't write no/such/folder/x"), "{error}");
    let error = sandbox.run(&["export", "-o", "./sessile.db"]).failed(2);
    assert!(error.contains("found the data file itself"), "{error}");
    Sandbox::new().run(&["export"]).failed(4);
}

/// What is committed while an export is read is not in it, and the writer does not wait.
#[test]
fn an_export_is_of_one_instant() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let sandbox = Sandbox::with_file();
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                SELECT 't', printf('%06d', i), 'u', 0, 1 FROM n";
    sandbox.sqlite().execute_batch(fill).unwrap();
    let mut child = sandbox
        .command(&["export"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // The pipe holds far less than the whole: the export is under way.
    sandbox
        .sqlite()
        .execute_batch(
            "UPDATE session SET user_id = 'changed'; DELETE FROM session WHERE id > '040000'",
        )
        .unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.len(), 49_999);
    assert!(rest.iter().all(|line| line.contains("\"user_id\":\"u\"")));
    assert!(child.wait().unwrap().success());
}
