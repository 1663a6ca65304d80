//! `restore`: a backup's contents under running servers, all at once, and what must not be lost by it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rusqlite::Connection;

use crate::backup::{damage, insert, names, of_format_1};
use crate::callers::beside_callers;
use crate::support::{Ended, Sandbox};

/// What Litestream makes in a file that it replicates, at its start.
pub const LITESTREAM: &str = "\
    CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
    CREATE TABLE _litestream_lock (id INTEGER)";

/// A live file of `live` sessions and a backup of `backup` ones.
fn prepared(backup: u32, live: u32) -> Sandbox {
    let sandbox = Sandbox::with_file();
    let connection = sandbox.sqlite();
    insert(&connection, 1..=backup);
    sandbox.run(&["backup", "backup.db"]).ok();
    connection.execute_batch("DELETE FROM session").unwrap();
    insert(&connection, 1..=live);
    sandbox
}

fn count(sandbox: &Sandbox) -> String {
    sandbox.run(&["check", "--tenant", "t", "u"]).stdout
}

/// `command`, `sessions` and the scope of each row of the audit.
fn audit(sandbox: &Sandbox) -> Vec<(String, u32, String)> {
    let connection = sandbox.sqlite();
    let mut statement = connection
        .prepare("SELECT command, sessions, scope FROM sessile_audit ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn running_servers_switch_at_once() {
    for snapshot in ["held", "per-query"] {
        let sandbox = prepared(1_000, 2_000);
        sandbox.run(&["backup", "other.db"]).ok();
        sandbox.write(
            "sessile.toml",
            &format!("database.snapshot = \"{snapshot}\""),
        );
        let server = sandbox.serve(&[]);
        let known = |count: u64| count == 1_000 || count == 2_000;
        beside_callers(
            &server,
            |before, count| known(before) && known(count),
            || {
                for (backup, sessions) in [("backup.db", 1_000), ("other.db", 2_000)].repeat(3) {
                    sandbox.run(&["restore", backup]).ok();
                    for _ in 0..20 {
                        assert_eq!(server.count("t", "u").json()["session_count"], sessions);
                    }
                    sandbox.sqlite().execute_batch("VACUUM").unwrap();
                    assert_eq!(server.count("t", "u").json()["session_count"], sessions);
                }
            },
        );
        // Once, and not back again.
        beside_callers(
            &server,
            |before, count| before >= count && known(count),
            || {
                sandbox.run(&["restore", "backup.db"]).ok();
            },
        );
        assert_eq!(server.count("t", "u").json()["session_count"], 1_000);
    }
}

#[test]
fn it_says_what_came_and_what_went() {
    let sandbox = prepared(3, 5);
    let dry = sandbox
        .run(&["restore", "--dry-run", "--json", "backup.db"])
        .ok();
    assert_eq!(count(&sandbox), "active: 5 sessions\n", "a dry run");
    assert_eq!(audit(&sandbox), []);
    insta::assert_snapshot!(
        [
            dry,
            sandbox.run(&["restore", "--dry-run", "backup.db"]).ok(),
            sandbox.run(&["restore", "backup.db"]).ok(),
            sandbox
                .run(&["restore", "--database", "new.db", "--json", "backup.db"])
                .ok(),
            sandbox
                .run(&["restore", "--database", "newer.db", "backup.db"])
                .ok(),
        ]
        .concat()
    );
    assert_eq!(count(&sandbox), "active: 3 sessions\n");
    let missing = sandbox.run(&["restore", "--database", "none.db", "--dry-run", "backup.db"]);
    assert!(missing.ok().contains("a new file"));
    assert!(!sandbox.path("none.db").exists());
}

/// The backup may lie in a folder that nobody may write to, on a disk that is mounted for reading.
#[test]
fn the_backup_is_only_read() {
    let sandbox = prepared(3, 5);
    fs::create_dir(sandbox.path("backups")).unwrap();
    let backup = sandbox.path("backups/backup.db");
    fs::rename(sandbox.path("backup.db"), &backup).unwrap();
    let before = (
        fs::read(&backup).unwrap(),
        fs::metadata(&backup).unwrap().modified().unwrap(),
    );
    fs::set_permissions(sandbox.path("backups"), fs::Permissions::from_mode(0o555)).unwrap();
    let ended = sandbox.run(&["restore", "backups/backup.db"]);
    fs::set_permissions(sandbox.path("backups"), fs::Permissions::from_mode(0o755)).unwrap();
    ended.ok();
    assert_eq!(
        before,
        (
            fs::read(&backup).unwrap(),
            fs::metadata(&backup).unwrap().modified().unwrap()
        )
    );
    let beside = fs::read_dir(sandbox.path("backups")).unwrap().count();
    assert_eq!(beside, 1, "nothing came to stand beside it");
    assert_eq!(count(&sandbox), "active: 3 sessions\n");
}

#[test]
fn revocations_come_undone_with_a_warning_or_are_kept() {
    let sandbox = prepared(4, 5);
    let revoke =
        "UPDATE session SET revoked_at = 7, revoke_reason = 'stolen' WHERE id IN (2, 3, 5)";
    sandbox.sqlite().execute_batch(revoke).unwrap();
    // An id that another user has now is another session.
    let reused = "UPDATE session SET user_id = 'v', revoked_at = 8 WHERE id = 4";
    sandbox.sqlite().execute_batch(reused).unwrap();
    assert_eq!(count(&sandbox), "active: 1 session\n");

    let dry = sandbox.run(&["restore", "--dry-run", "backup.db"]);
    assert!(
        dry.stderr
            .contains("2 sessions that had been revoked would not be"),
        "{dry:?}"
    );
    let kept = sandbox.run(&["restore", "--keep-revocations", "backup.db"]);
    assert_eq!(kept.stderr, "");
    assert_eq!(
        kept.ok(),
        "restored 4 sessions from backup.db into sessile.db, which had 5 sessions; 2 of them stay revoked\n"
    );
    assert_eq!(count(&sandbox), "active: 2 sessions\n");
    let reasons: String = sandbox
        .sqlite()
        .query_row(
            "SELECT group_concat(id || revoke_reason || revoked_at) FROM session WHERE revoked_at IS NOT NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(reasons, "2stolen7,3stolen7");

    let undone = sandbox.run(&["restore", "backup.db"]);
    assert_eq!(
        undone.stderr,
        "sessile: warning: 2 sessions that had been revoked are not revoked any more; \
         --keep-revocations would have kept them so\n"
    );
    assert_eq!(count(&sandbox), "active: 4 sessions\n");
}

/// A revocation that is committed while a restore waits for the lock is one of those that are kept.
#[test]
fn no_revocation_slips_in_between() {
    let sandbox = prepared(4, 4);
    let writer = sandbox.sqlite();
    writer
        .execute_batch("BEGIN IMMEDIATE; UPDATE session SET revoked_at = 7 WHERE id = 1")
        .unwrap();
    let mut restore = sandbox
        .command(&["restore", "--keep-revocations", "backup.db"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has read the backup and waits for the lock once it has the live file open.
    let opened = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", restore.id())).unwrap();
        descriptors
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .any(|path| path.ends_with("sessile.db-shm"))
    };
    while !opened() {
        std::thread::yield_now();
    }
    writer.execute_batch("COMMIT").unwrap();
    assert!(restore.wait().unwrap().success());
    let mut said = String::new();
    restore
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("1 of them stay revoked"), "{said}");
    assert_eq!(count(&sandbox), "active: 3 sessions\n");
}

#[test]
fn the_audit_is_never_lost() {
    let sandbox = Sandbox::with_file();
    let row = |at: u32, command: &str| {
        let sql = "INSERT INTO sessile_audit (at, os_user, command, scope, sessions)
                   VALUES (?1, 'o', ?2, 's', ?1)";
        sandbox.sqlite().execute(sql, (at, command)).unwrap();
    };
    row(1, "purge");
    sandbox.run(&["backup", "backup.db"]).ok();
    row(2, "delete");
    row(3, "revoke");
    let ended = sandbox.run(&["restore", "backup.db"]);
    assert_eq!(
        ended.stderr,
        "sessile: warning: 1 of `sessile delete` later than the backup are undone; \
         `sessile audit` lists them, delete those users again\n"
    );
    sandbox.run(&["restore", "backup.db"]).ok();
    let rows = audit(&sandbox);
    let commands: Vec<(&str, u32)> = rows
        .iter()
        .map(|(command, sessions, _)| (command.as_str(), *sessions))
        .collect();
    assert_eq!(
        commands,
        [
            ("purge", 1),
            ("delete", 2),
            ("revoke", 3),
            ("restore", 0),
            ("restore", 0)
        ]
    );
    let from = sandbox.path("backup.db").canonicalize().unwrap();
    assert_eq!(rows[4].2, format!("all, from {}", from.display()));
}

#[test]
fn a_damaged_file_is_mended() {
    let sandbox = prepared(1_000, 2_000);
    damage(&sandbox.database());
    let server = sandbox.serve(&[]);
    sandbox.run(&["restore", "backup.db"]).ok();
    assert_eq!(server.count("t", "u").json()["session_count"], 1_000);
    let sound: String = sandbox
        .sqlite()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

/// What can't be compared is said, and refused where something was to be kept of it.
#[test]
fn a_file_that_can_not_be_read_is_replaced_with_a_warning() {
    let sandbox = prepared(3, 5);
    sandbox
        .sqlite()
        .execute_batch("DROP TABLE session")
        .unwrap();
    sandbox
        .run(&["restore", "--keep-revocations", "backup.db"])
        .failed(4);
    let ended = sandbox.run(&["restore", "backup.db"]);
    assert!(
        ended.stderr.contains("no such table: live.session"),
        "{ended:?}"
    );
    assert!(ended.ok().contains("which could not be read any more"));
    assert_eq!(count(&sandbox), "active: 3 sessions\n");
}

#[test]
fn a_bad_backup_is_refused_and_changes_nothing() {
    type Change<'c> = &'c dyn Fn(&Sandbox);
    let sql = |sandbox: &Sandbox, sql: &str| {
        let backup = Connection::open(sandbox.path("backup.db")).unwrap();
        backup.execute_batch(sql).unwrap();
    };
    let changes: [(&str, Change<'_>); 9] = [
        ("there is no such file", &|sandbox| {
            fs::remove_file(sandbox.path("backup.db")).unwrap();
        }),
        ("it is damaged: ", &|sandbox| {
            damage(&sandbox.path("backup.db"))
        }),
        ("it is not a SQLite database", &|sandbox| {
            sandbox.write("backup.db", &"x".repeat(9000));
        }),
        ("another program", &|sandbox| {
            sql(sandbox, "PRAGMA application_id = 7")
        }),
        ("it is an empty database", &|sandbox| {
            sandbox.write("backup.db", "");
        }),
        ("its sessile_audit is not that", &|sandbox| {
            sql(sandbox, "DROP TABLE sessile_audit")
        }),
        ("its format is 3, which is newer", &|sandbox| {
            sql(sandbox, "PRAGMA user_version = 3")
        }),
        (
            "its format is 1, which is older than the format 2 of this program; \
             `sessile init --upgrade --database COPY` brings up a copy of it",
            &|sandbox| {
                let other = Sandbox::new();
                fs::copy(of_format_1(&other), sandbox.path("backup.db")).unwrap();
            },
        ),
        ("backup.db-wal, so it is in use", &|sandbox| {
            sandbox.write("backup.db-wal", "what was committed last");
        }),
    ];
    for (sentence, change) in changes {
        let sandbox = prepared(1_000, 5);
        change(&sandbox);
        let before = fs::read(sandbox.database()).unwrap();
        for args in [
            &["restore", "backup.db"][..],
            &["restore", "--dry-run", "backup.db"],
        ] {
            let error = sandbox.run(args).failed(4);
            assert!(
                error.starts_with("sessile: backup.db: ") && error.contains(sentence),
                "{error}"
            );
        }
        assert_eq!(fs::read(sandbox.database()).unwrap(), before, "{sentence}");
        sandbox
            .run(&["restore", "--database", "new.db", "backup.db"])
            .failed(4);
        assert!(!sandbox.path("new.db").exists(), "{sentence}");
    }
    let sandbox = prepared(3, 5);
    let error = sandbox.run(&["restore", "sessile.db"]).failed(4);
    assert!(error.contains("it is the data file itself"), "{error}");
}

/// Litestream would stop to replicate without them.
#[test]
fn the_tables_of_litestream_outlive_a_backup_without_them() {
    let sandbox = prepared(3, 5);
    let restored = |kept: u32| {
        sandbox.run(&["restore", "backup.db"]).ok();
        assert_eq!(count(&sandbox), "active: 3 sessions\n");
        let sql = "SELECT count(*), sum(name IN ('_litestream_seq', '_litestream_lock')) FROM sqlite_schema
                   WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let found: (u32, u32) = sandbox
            .sqlite()
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(found, (3 + kept, kept));
    };
    restored(0);
    sandbox.sqlite().execute_batch(LITESTREAM).unwrap();
    restored(2);
    // As they are in a backup that has them.
    let seq = "INSERT INTO _litestream_seq VALUES (1, 7)";
    sandbox.sqlite().execute_batch(seq).unwrap();
    sandbox.run(&["backup", "--force", "backup.db"]).ok();
    sandbox
        .sqlite()
        .execute_batch("UPDATE _litestream_seq SET seq = 9")
        .unwrap();
    restored(2);
    assert_eq!(sandbox.number("SELECT seq FROM _litestream_seq"), 7);

    // Beside sessions that can't be read any more.
    let sandbox = prepared(3, 5);
    let damage = format!("{LITESTREAM}; DROP TABLE session");
    sandbox.sqlite().execute_batch(&damage).unwrap();
    sandbox.run(&["restore", "backup.db"]).ok();
    assert_eq!(sandbox.number("SELECT count(*) FROM _litestream_lock"), 0);
}

#[test]
fn a_file_of_others_is_not_replaced() {
    for (change, sentence) in [
        ("PRAGMA application_id = 7", "is not a sessile file"),
        ("PRAGMA user_version = 3", "its format is 3, which is newer"),
    ] {
        let sandbox = prepared(3, 5);
        sandbox.sqlite().execute_batch(change).unwrap();
        let error = sandbox.run(&["restore", "backup.db"]).failed(4);
        assert!(
            error.starts_with("sessile: sessile.db: ") && error.contains(sentence),
            "{error}"
        );
    }
    let sandbox = prepared(3, 5);
    sandbox.write("sessile.db", &"text\n".repeat(1000));
    sandbox.run(&["restore", "backup.db"]).failed(4);
    assert!(
        fs::read_to_string(sandbox.database())
            .unwrap()
            .starts_with("text")
    );
}

/// A WAL that is left of a file that is gone would be read as the new one's.
#[test]
fn nothing_is_made_beside_a_stale_wal() {
    let sandbox = prepared(3, 5);
    fs::remove_file(sandbox.database()).unwrap();
    let stale = sandbox.write("sessile.db-wal", "stale");
    for args in [&["restore", "backup.db"][..], &["init"]] {
        let error = sandbox.run(args).failed(4);
        assert!(
            error.contains("sessile.db-wal is left of another file"),
            "{error}"
        );
        assert!(!sandbox.database().exists());
    }
    fs::remove_file(stale).unwrap();
    sandbox.run(&["restore", "backup.db"]).ok();
}

/// Files that others made, and files of other shapes than those that this program makes.
#[test]
fn whatever_holds_the_same_can_be_restored_and_restored_into() {
    let sandbox = prepared(3, 5);
    let others = "CREATE TABLE theirs AS SELECT 42 AS x; CREATE INDEX by_ip ON session (ip)";
    sandbox.sqlite().execute_batch(others).unwrap();
    let other = sandbox.path("other.db");
    let vacuum = format!("PRAGMA page_size = 8192; VACUUM INTO '{}'", other.display());
    sandbox.sqlite().execute_batch(&vacuum).unwrap();
    assert_eq!(
        fs::read(&other).unwrap()[16..20],
        [0x20, 0, 1, 1],
        "8192, not in WAL mode"
    );
    sandbox
        .run(&["restore", "--database", "new.db", "other.db"])
        .ok();
    let checked = sandbox.run(&["check", "--database", "new.db", "--tenant", "t", "u"]);
    assert_eq!(checked.ok(), "active: 5 sessions\n");
    let theirs = Connection::open(sandbox.path("new.db")).unwrap();
    let theirs = theirs.query_row("SELECT x FROM theirs", [], |row| row.get(0));
    assert_eq!(theirs, Ok(42), "the owner's tables come with the rest");
    // A live file in another journal mode, or of an older format.
    for change in [
        "PRAGMA journal_mode = DELETE",
        "DROP TABLE sessile_audit; DROP TABLE sessile_import; PRAGMA user_version = 1",
    ] {
        sandbox.sqlite().execute_batch(change).unwrap();
        sandbox.run(&["restore", "backup.db"]).ok();
        assert_eq!(count(&sandbox), "active: 3 sessions\n", "{change}");
    }
    // Pages of another size can't be taken over, but what is advised can.
    for args in [
        &["restore", "other.db"][..],
        &["restore", "--dry-run", "other.db"],
    ] {
        let error = sandbox.run(args).failed(4);
        assert!(
            error.contains("its pages have 4096 bytes and those of the backup 8192"),
            "{error}"
        );
    }
    let advised = "PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM";
    Connection::open(&other)
        .unwrap()
        .execute_batch(advised)
        .unwrap();
    sandbox.run(&["restore", "other.db"]).ok();
    assert_eq!(count(&sandbox), "active: 5 sessions\n");
    // A file that was made beforehand, for its mode.
    sandbox.write("touched.db", "");
    let touched = sandbox.run(&["restore", "--database", "touched.db", "backup.db"]);
    assert!(touched.ok().contains("a new file"));
}

/// Killed at any moment, it has done all or nothing, and left nothing behind.
#[test]
fn a_killed_restore_has_done_all_or_nothing() {
    let sandbox = prepared(5_000, 8_000);
    let before = names(&sandbox);
    let server = sandbox.serve(&[]);
    let known = |count: u64| count == 5_000 || count == 8_000;
    let (mut killed, mut delay) = (0, std::time::Duration::from_millis(5));
    beside_callers(
        &server,
        |before, count| known(before) && known(count),
        || {
            loop {
                let mut restore = sandbox
                    .command(&["restore", "backup.db"])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                std::thread::sleep(delay); // a later moment each time, whichever it is
                let _ = restore.kill();
                let ended = Ended::from(restore.wait_with_output().unwrap());
                match ended.code {
                    None => killed += 1,
                    _ => break drop(ended.ok()),
                }
                delay += delay / 5;
            }
        },
    );
    assert!(killed > 3, "killed {killed} times");
    assert_eq!(server.count("t", "u").json()["session_count"], 5_000);
    let companions = |name: &String| name.ends_with("-wal") || name.ends_with("-shm");
    let after: Vec<String> = names(&sandbox)
        .into_iter()
        .filter(|name| !companions(name))
        .collect();
    assert_eq!(
        after,
        before
            .into_iter()
            .filter(|name| !companions(name))
            .collect::<Vec<_>>()
    );
}
