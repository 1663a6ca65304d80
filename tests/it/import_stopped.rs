//! `import` that is killed, interrupted, or out of space: nothing is lost, nothing is there twice.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::import::NOW;
use crate::support::{Ended, PATIENCE, Sandbox, Small, rows};

/// Waits until `is_so`.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

pub fn signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

pub fn spawn(sandbox: &Sandbox, args: &[&str]) -> Child {
    sandbox
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sessions with instants that count from now, in an order that is not that of their ids.
fn sessions(count: u64) -> String {
    let line = |number: u64| {
        let id = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!(
            "{{\"tenant_id\":\"t{}\",\"id\":\"{id:016x}\",\"user_id\":\"u{}\",\"created_ago\":\"{number}s\",\
             \"expires_in\":\"{number}s\",\"user_agent\":\"{:0100}\"}}\n",
            number % 3,
            number % 100,
            number
        )
    };
    (0..count).map(line).collect()
}

/// Every row of the file, every column, and that nothing is left under way.
fn all(database: &Path) -> Vec<Vec<Value>> {
    let connection = Connection::open(database).unwrap();
    let left: i64 = connection
        .query_row("SELECT count(*) FROM sessile_import", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    rows(&connection, "SELECT * FROM session ORDER BY tenant_id, id")
}

/// How many sessions were written, by all runs together.
fn written(database: &Path) -> u64 {
    let sum = reader(database).query_row("SELECT sum(sessions) FROM sessile_audit", [], |row| {
        row.get::<_, i64>(0)
    });
    sum.unwrap().unsigned_abs()
}

/// What the input gives where nothing goes wrong.
fn wanted(input: &str) -> Vec<Vec<Value>> {
    let sandbox = Sandbox::with_file();
    sandbox.write("input", input);
    sandbox.run(&["import", "--at", NOW, "input"]).ok();
    all(&sandbox.database())
}

/// How many records are done with.
fn done(connection: &Connection) -> u64 {
    let done = connection.query_row(
        "SELECT coalesce(max(records), 0) FROM sessile_import",
        [],
        |row| row.get::<_, i64>(0),
    );
    done.unwrap().unsigned_abs()
}

fn reader(database: &Path) -> Connection {
    let connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

#[test]
fn a_kill_at_any_point_loses_nothing_and_doubles_nothing() {
    const COUNT: u64 = 6_000;
    let input = sessions(COUNT);
    let wanted = wanted(&input);
    // Where a process is killed: after so many records, and at once or a little later.
    let mut random = u64::from(std::process::id());
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    for round in 0..4 {
        let sandbox = Sandbox::with_file();
        sandbox.write("input", &input);
        if round % 2 == 1 {
            // Some are there already, and are replaced.
            sandbox.write("some", &sessions(COUNT / 3));
            sandbox.run(&["import", "--at", NOW, "some"]).ok();
        }
        let batch = (50 + next(300)).to_string();
        let mut args = vec!["import", "--batch", &batch, "input", "--at", NOW];
        let connection = reader(&sandbox.database());
        let mut kills = 0;
        loop {
            let target = done(&connection) + 1 + next(COUNT / 4);
            let mut child = spawn(&sandbox, &args);
            // The first kill waits for the first commit, which keeps the now that relative instants count from.
            args = vec!["import", "--batch", &batch, "input", "--resume"];
            let mut has_ended = false;
            wait_until("the import comes on", || {
                has_ended = child.try_wait().unwrap().is_some();
                has_ended || done(&connection) >= target
            });
            std::thread::sleep(std::time::Duration::from_micros(next(20_000)));
            if has_ended {
                Ended::from(child.wait_with_output().unwrap()).ok();
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            if done(&connection) == 0 {
                break; // it was done when it was killed
            }
        }
        assert!(kills > 0);
        drop(connection);
        let before = if round % 2 == 1 { COUNT / 3 } else { 0 };
        assert_eq!(
            written(&sandbox.database()),
            before + COUNT,
            "each was written once"
        );
        assert!(
            all(&sandbox.database()) == wanted,
            "round {round}, {kills} kills"
        );
    }
}

#[test]
fn a_full_disk_loses_nothing_and_doubles_nothing() {
    let sandbox = Sandbox::new();
    let Some(small) = Small::mount(sandbox.path("small")) else {
        return;
    };
    let database = sandbox.path("small/sessile.db");
    let input = sessions(60_000);
    sandbox.write("input", &input);
    let run = |args: &[&str]| {
        let args: Vec<&str> = ["import", "input", "--database", "small/sessile.db"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        sandbox.run(&args)
    };
    sandbox
        .run(&["init", "--database", "small/sessile.db"])
        .ok();

    let error = run(&["--at", NOW]).failed(4);
    assert!(error.contains("full"), "{error}");
    assert_eq!(all(&database).len(), 0, "one transaction is all or nothing");

    let error = run(&["--at", NOW, "--batch", "1000"]).failed(4);
    let come = done(&reader(&database));
    assert!(come > 1_000, "{error}");
    assert!(
        error.contains("full")
            && error.contains(&format!("{come} records of "))
            && error.contains("are done with"),
        "{error}"
    );
    // As long as there is no space, nothing comes of going on; smaller parts may get a little further.
    run(&["--resume", "--batch", "100"]).failed(4);
    assert!(done(&reader(&database)) >= come);
    small.grow();
    run(&["--resume", "--batch", "1000"]).ok();
    assert_eq!(written(&database), 60_000, "each was written once");
    assert!(all(&database) == wanted(&input));
}

#[test]
fn control_c_keeps_the_parts_and_says_how_far_it_came() {
    let sandbox = Sandbox::with_file();
    let input = sessions(1_000);
    let args = ["import", "-", "--batch", "100"];
    let mut child = spawn(&sandbox, &[&args[..], &["--at", NOW]].concat());
    // The pipe stays open: there might be more.
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(input.as_bytes()).unwrap();
    let connection = reader(&sandbox.database());
    wait_until("the first parts are committed", || done(&connection) >= 500);
    signal(&child, "-INT");
    let error = Ended::from(child.wait_with_output().unwrap()).failed(2);
    drop(pipe);
    let come = done(&connection);
    assert_eq!(
        error,
        format!(
            "sessile: {come} records of - are done with: stopped by a signal; go on with --resume\n"
        )
    );
    let resumed = sandbox.run_with_input(&[&args[..], &["--resume"]].concat(), input.as_bytes());
    assert!(
        resumed
            .ok()
            .ends_with(&format!("; {come} were done before\n"))
    );
    drop(connection);
    assert!(all(&sandbox.database()) == wanted(&input));
}

/// VACUUM gives the rows other numbers, and so what came before can't be told by them.
#[test]
fn a_file_that_is_rebuilt_between_two_parts_is_gone_on_with() {
    let sandbox = Sandbox::with_file();
    let input = sessions(1_000);
    sandbox.write("input", &input);
    sandbox.run(&["import", "input", "--at", NOW]).ok();
    let connection = sandbox.sqlite();
    connection
        .execute("DELETE FROM session WHERE rowid <= 100", [])
        .unwrap();

    let args = ["import", "-", "--batch", "128"];
    let mut child = spawn(&sandbox, &[&args[..], &["--at", NOW]].concat());
    let mut pipe = child.stdin.take().unwrap();
    let half = input.match_indices('\n').nth(599).unwrap().0 + 1;
    let (half, rest) = input.split_at(half);
    // Records are handed over 256 at a time: with two times so many, no transaction is left open.
    pipe.write_all(half.as_bytes()).unwrap();
    wait_until("four parts are committed", || done(&connection) == 512);
    connection.execute_batch("VACUUM").unwrap();
    pipe.write_all(rest.as_bytes()).unwrap();
    drop(pipe);
    let error = Ended::from(child.wait_with_output().unwrap()).failed(4);
    assert!(
        error.contains("records of - are done with") && error.contains("was rebuilt"),
        "{error}"
    );

    sandbox
        .run_with_input(&[&args[..], &["--resume"]].concat(), input.as_bytes())
        .ok();
    assert!(all(&sandbox.database()) == wanted(&input));
}

#[test]
fn control_c_before_the_commit_writes_nothing() {
    let sandbox = Sandbox::with_file();
    let mut child = spawn(&sandbox, &["import", "-"]);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(sessions(1_000).as_bytes()).unwrap();
    let writer = Connection::open(sandbox.database()).unwrap();
    writer.busy_timeout(std::time::Duration::ZERO).unwrap();
    wait_until("the transaction is open", || {
        writer.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
    });
    signal(&child, "-TERM");
    let error = Ended::from(child.wait_with_output().unwrap()).failed(2);
    assert_eq!(error, "sessile: stopped by a signal; nothing was written\n");
    drop(pipe);
    assert_eq!(all(&sandbox.database()).len(), 0);
}
