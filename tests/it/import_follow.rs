//! `import --follow`: an input without an end, whose writers come and go.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Child;

use crate::import::{audit, row, session};
use crate::import_stopped::{signal, spawn, wait_until};
use crate::support::{Ended, Sandbox};

fn line(id: &str) -> String {
    session(r#""expires_in":"1h""#).replace("\"s\"", &format!("{id:?}")) + "\n"
}

/// Waits until the file has these ids and no others.
#[track_caller]
fn has(sandbox: &Sandbox, ids: &[&str]) {
    let connection = sandbox.sqlite();
    let mut found = String::new();
    wait_until(&format!("{ids:?}"), || {
        let select =
            "SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM session ORDER BY id)";
        found = connection.query_row(select, [], |row| row.get(0)).unwrap();
        found == ids.join(" ")
    });
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[track_caller]
fn stop(child: Child, how: &str) -> Ended {
    signal(&child, how);
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_pipe_is_read_through_the_restarts_of_its_writers() {
    let sandbox = Sandbox::with_file();
    let pipe = sandbox.pipe("pipe");
    let mut child = spawn(
        &sandbox,
        &["import", "--follow", "pipe", "--skip-bad", "bad"],
    );
    let mut stderr = BufReader::new(child.stderr.take().unwrap());

    let open = || OpenOptions::new().write(true).open(&pipe).unwrap();
    let mut writer = open();
    writer.write_all(line("a").as_bytes()).unwrap();
    has(&sandbox, &["a"]);
    let text = line("b");
    let (half, rest) = text.split_at(20);
    writer.write_all((line("c") + half).as_bytes()).unwrap();
    has(&sandbox, &["a", "c"]);
    writer.write_all(rest.as_bytes()).unwrap();
    has(&sandbox, &["a", "b", "c"]);

    // A writer dies in the midst of a line; another begins with its own.
    writer.write_all(half.as_bytes()).unwrap();
    drop(writer);
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert!(told.contains("column 20: EOF while parsing"), "{told}");
    open().write_all(line("d").as_bytes()).unwrap();
    has(&sandbox, &["a", "b", "c", "d"]);
    let mut writer = open();
    let ended = session(r#""expires_in":"1h","status":"revoked""#).replace("\"s\"", "\"a\"");
    writer
        .write_all(format!("nonsense\n{ended}\n{}{}", line("e"), line("e")).as_bytes())
        .unwrap();
    has(&sandbox, &["a", "b", "c", "d", "e"]);
    assert!(row(&sandbox, "a").contains_key("revoked_at"));

    let ended = stop(child, "-TERM");
    drop(writer);
    told.clear();
    stderr.read_line(&mut told).unwrap();
    assert_eq!(
        told,
        "line 1: column 2: expected ident; allowed: one session object a line\n"
    );
    let said = ended.ok();
    assert!(
        said.contains(" 5 new, 2 replaced;") && said.contains("at fault were left out, into bad"),
        "{said}"
    );
    let bad = fs::read_to_string(sandbox.path("bad")).unwrap();
    assert_eq!(bad, format!("{half}\nnonsense\n"));
    let entries: Vec<i64> = audit(&sandbox)
        .into_iter()
        .map(|(_, _, _, sessions)| sessions)
        .collect();
    assert_eq!(entries, [7], "one row, however many commits");
}

#[test]
fn a_growing_file_is_read_through_rotation_and_truncation() {
    let sandbox = Sandbox::with_file();
    let log = sandbox.write("log", &line("a"));
    let child = spawn(
        &sandbox,
        &["import", "--follow", "log", "--map", "user_id=user_id"],
    );
    has(&sandbox, &["a"]);
    let text = line("b");
    let (half, rest) = text.split_at(30);
    append(&log, half);
    append(&log, rest);
    has(&sandbox, &["a", "b"]);

    // Rotated: what is still written to the old file counts, then the new one from its beginning.
    fs::rename(&log, sandbox.path("log.1")).unwrap();
    append(&sandbox.path("log.1"), &line("c"));
    has(&sandbox, &["a", "b", "c"]);
    sandbox.write("new", &line("d"));
    append(&sandbox.path("log.1"), &line("e"));
    fs::rename(sandbox.path("new"), &log).unwrap();
    has(&sandbox, &["a", "b", "c", "d", "e"]);
    append(
        &log,
        &line("f").replace("\"id\"", "\"color\":1,\"id\"").repeat(2),
    );
    has(&sandbox, &["a", "b", "c", "d", "e", "f"]);

    // Emptied, and written from its beginning.
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    append(&log, &line("g"));
    has(&sandbox, &["a", "b", "c", "d", "e", "f", "g"]);
    append(&log, half);
    let ended = stop(child, "-INT");
    // Half a line at the end is nobody's fault.
    assert_eq!(
        ended.stderr,
        "sessile: warning: the field \"color\" is not known and is ignored\n"
    );
    assert!(ended.ok().contains("imported 8 sessions"));
}

#[test]
fn csv_is_followed_as_well() {
    let sandbox = Sandbox::with_file();
    let log = sandbox.write("log", "id,user_id,expires_in\n");
    let child = spawn(&sandbox, &["import", "--follow", "log", "--tenant", "t"]);
    append(&log, "a,u,1h\nb,u,1");
    has(&sandbox, &["a"]);
    append(&log, "h\nbad,u,x\n");
    has(&sandbox, &["a", "b"]);
    // Another file, with another header.
    sandbox.write("new", "expires_in,id,user_id\n1h,c,u\n");
    fs::rename(sandbox.path("new"), &log).unwrap();
    has(&sandbox, &["a", "b", "c"]);
    // A header that can make no session is told, and the next file is read nevertheless.
    sandbox.write("new", "nonsense\n1\n");
    fs::rename(sandbox.path("new"), &log).unwrap();
    sandbox.write("new", "id,user_id,expires_in\nd,u,1h\n");
    wait_until("both have been read", || {
        // Moved over it again, so that it is noticed whenever the one before was read.
        sandbox.write("new", "id,user_id,expires_in\nd,u,1h\n");
        fs::rename(sandbox.path("new"), &log).unwrap();
        let found: i64 = sandbox
            .sqlite()
            .query_row("SELECT count(*) FROM session WHERE id = 'd'", [], |row| {
                row.get(0)
            })
            .unwrap();
        found == 1
    });
    append(&log, "e,u,1h\nf,u,1h");
    has(&sandbox, &["a", "b", "c", "d", "e"]);
    let ended = stop(child, "-TERM");
    assert!(
        ended.stderr.contains("line 4: expires_in: found \"x\""),
        "{ended:?}"
    );
    ended.ok();
}

#[test]
fn standard_input_is_followed_to_its_end() {
    let sandbox = Sandbox::with_file();
    let mut child = spawn(&sandbox, &["import", "--follow", "-", "--json"]);
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all((line("a") + "{}\n").as_bytes()).unwrap();
    has(&sandbox, &["a"]);
    pipe.write_all(line("b").trim_end().as_bytes()).unwrap();
    drop(pipe);
    let ended = Ended::from(child.wait_with_output().unwrap());
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["new"], &said["skipped"]), (&2.into(), &1.into()));
    assert_eq!(ended.code, Some(0));
    has(&sandbox, &["a", "b"]);
}

#[test]
fn what_can_not_be_followed() {
    let sandbox = Sandbox::with_file();
    let error = sandbox.run(&["import", "--follow", "missing"]).failed(2);
    assert!(error.contains("can't read missing"), "{error}");
    sandbox.write("x", "");
    let error = sandbox
        .run(&["import", "--follow", "x", "--format", "upstream"])
        .failed(2);
    assert!(error.contains("allowed: NDJSON and CSV"), "{error}");
    for with in [&["--batch", "1"][..], &["--resume"], &["--dry-run"]] {
        let args = [&["import", "--follow", "x"][..], with].concat();
        assert!(sandbox.run(&args).failed(2).contains("cannot be used with"));
    }
}
