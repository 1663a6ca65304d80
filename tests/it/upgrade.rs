//! `init --upgrade`: old files brought up to the format of this program, after a backup, and no others.

use std::fs;

use rusqlite::Connection;

use crate::backup::of_format_1;
use crate::support::{KEY, Sandbox};

/// Every object's kind, name and statement, without comments and with single spaces.
fn shape(connection: &Connection) -> Vec<(String, String, String)> {
    let mut statement = connection
        .prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let sql: String = row.get(2)?;
        let words: Vec<&str> = sql
            .lines()
            .flat_map(|line| line.split("--").next().unwrap().split_whitespace())
            .collect();
        Ok((row.get(0)?, row.get(1)?, words.join(" ")))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn format(connection: &Connection) -> i32 {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

#[test]
fn an_old_file_becomes_what_a_new_one_is() {
    let sandbox = Sandbox::new();
    let path = of_format_1(&sandbox);

    let mut serve = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    serve.env("INTERNAL_API_KEY", KEY);
    for mut refused in [serve, sandbox.command(&["check", "--tenant", "t", "u"])] {
        let error = crate::support::Ended::from(refused.output().unwrap()).failed(4);
        assert!(
            error.contains("its format is 1") && error.contains("`sessile init --upgrade`"),
            "{error}"
        );
    }
    assert_eq!(format(&sandbox.sqlite()), 1, "nobody else changes it");

    insta::assert_snapshot!(
        [
            sandbox.run(&["init", "--upgrade", "--dry-run"]).ok(),
            sandbox.run(&["init", "--upgrade"]).ok(),
            sandbox.run(&["init", "--upgrade"]).ok(),
        ]
        .concat()
    );
    assert_eq!(
        sandbox.run(&["check", "--tenant", "t", "u"]).ok(),
        "active: 3 sessions\n"
    );
    let new = Connection::open_in_memory().unwrap();
    new.execute_batch(sessile::store::schema::SQL).unwrap();
    let upgraded = Connection::open(&path).unwrap();
    assert_eq!(shape(&upgraded), shape(&new));
    assert_eq!(format(&upgraded), format(&new));

    let backup = Connection::open(sandbox.path("sessile.db.format-1.backup")).unwrap();
    assert_eq!(format(&backup), 1);
    let rows = backup.query_row("SELECT count(*) FROM session", [], |row| row.get(0));
    assert_eq!(rows, Ok(3));
}

#[test]
fn a_dry_run_changes_nothing_and_says_so_to_programs() {
    let sandbox = Sandbox::new();
    let path = of_format_1(&sandbox);
    let before = fs::read(&path).unwrap();
    insta::assert_snapshot!(
        sandbox.run(&["init", "--upgrade", "--dry-run", "--json"]).ok(),
        @r#"{"database":"sessile.db","outcome":"upgraded","format":2,"upgraded_from":1,"backup":"sessile.db.format-1.backup","dry_run":true}"#
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!sandbox.path("sessile.db.format-1.backup").exists());
    insta::assert_snapshot!(
        sandbox.run(&["init", "--json", "--database", "new.db"]).ok(),
        @r#"{"database":"new.db","outcome":"made","format":2,"dry_run":false}"#
    );
}

/// Each is refused with its sentence, and stays as it is, without a backup.
#[test]
fn what_can_not_be_upgraded_is_left_as_it_is() {
    for (change, sentence) in [
        (
            "CREATE TABLE Sessile_Audit (x)",
            "it has a sessile_audit of its owner's, a name that format 2 needs",
        ),
        (
            "CREATE VIEW sessile_import AS SELECT 1",
            "it has a sessile_import of its owner's",
        ),
        ("PRAGMA user_version = 3", "its format is 3, which is newer"),
        (
            "PRAGMA user_version = 0",
            "its user_version is not that of schema.sql",
        ),
        (
            "ALTER TABLE session ADD COLUMN x TEXT",
            "its session is not that of schema.sql",
        ),
        ("PRAGMA journal_mode = DELETE", "its journal mode is delete"),
        ("PRAGMA application_id = 7", "another program"),
    ] {
        let sandbox = Sandbox::new();
        let path = of_format_1(&sandbox);
        sandbox.sqlite().execute_batch(change).unwrap();
        let before = fs::read(&path).unwrap();
        let error = sandbox.run(&["init", "--upgrade"]).failed(4);
        assert!(error.contains(sentence), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before, "{change}");
        assert!(
            !sandbox.path("sessile.db.format-1.backup").exists(),
            "{change}"
        );
    }
    let sandbox = Sandbox::new();
    sandbox.run(&["init", "--upgrade"]).failed(4);
    assert!(!sandbox.database().exists(), "an upgrade makes no file");
    sandbox.run(&["init", "--dry-run"]).failed(2);
}

/// The way back is never overwritten, and without one there is no way forth.
#[test]
fn a_backup_that_is_there_stays() {
    let sandbox = Sandbox::new();
    of_format_1(&sandbox);
    let there = sandbox.write("sessile.db.format-1.backup", "the way back");
    let error = sandbox.run(&["init", "--upgrade"]).failed(4);
    assert!(
        error.contains("sessile.db.format-1.backup: it exists already"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&there).unwrap(), "the way back");
    assert_eq!(format(&sandbox.sqlite()), 1);
    fs::remove_file(&there).unwrap();
    sandbox.run(&["init", "--upgrade"]).ok();
}
