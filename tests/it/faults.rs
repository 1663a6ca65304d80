//! The file under a running server, and what may happen to it: a fault is either answered rightly, or it is a 500 and
//! a red `/readyz` that names the cause; and once the file is mended, all is well again without a restart.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::{
    KEY, PATIENCE, Sandbox, Server, Small, closed_to_others, question, request, skipped,
};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

/// The size of a page of a file of ours.
const PAGE: usize = 4096;

/// A file with the sessions 1 to `count` of user `u` in tenant `t`, all of them in the file itself, that nobody has
/// open.
fn filled(count: u32) -> Sandbox {
    let sandbox = Sandbox::with_file();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        SELECT 't', i, 'u', 0, 9999999999999 FROM n";
    sandbox.sqlite().execute(sql, [count]).unwrap();
    assert!(!sandbox.path("sessile.db-wal").exists());
    sandbox
}

/// One more session of `u`.
fn insert(connection: &Connection, id: &str) {
    let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        VALUES ('t', ?1, 'u', 0, 9999999999999)";
    connection.execute(sql, [id]).unwrap();
}

/// Asks every worker, and each of them more than once.
fn ask_all(server: &Server) -> Vec<(u16, String)> {
    let mut connections: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let mut answers = Vec::new();
    for _ in 0..2 {
        for connection in &mut connections {
            let answer = connection.ask(&question("u", &FIELDS));
            answers.push((answer.status, answer.body));
        }
    }
    answers
}

/// The checks of `/readyz` that fail, as `name: detail`; empty where all is green. It answers within its bound, a
/// second, and a little more on a machine that does other things, too.
#[track_caller]
fn red(server: &Server) -> String {
    let began = Instant::now();
    let ready = server.ask(&request("GET", "/readyz", &[]));
    assert!(began.elapsed() < Duration::from_secs(3), "{ready:?}");
    let json = ready.json();
    let failed: Vec<String> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| {
            let text = |member: &str| check[member].as_str().unwrap().to_owned();
            format!("{}: {}", text("name"), text("detail"))
        })
        .collect();
    let (status, word) = match failed.is_empty() {
        true => (200, "ready"),
        false => (503, "unready"),
    };
    assert_eq!((ready.status, &json["status"]), (status, &word.into()));
    assert!(!ready.body.contains('/'), "no path: {}", ready.body);
    failed.join(", ")
}

/// Waits until `is_so`, without a question more than the log of a server has room for before anybody reads it.
#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(100));
    }
}

/// Every answer is this count, and `/readyz` is green, at once.
#[track_caller]
fn answers(server: &Server, count: u32) {
    let right = format!("{{\"active\":{},\"session_count\":{count}}}", count > 0);
    for answer in ask_all(server) {
        assert_eq!(answer, (200, right.clone()));
    }
    assert_eq!(red(server), "");
}

/// The same, but it may take a while, in which there is no answer but a 500.
#[track_caller]
fn answers_again(server: &Server, count: u32) {
    wait_until("it is mended", || {
        let is_right = |(status, body): &(u16, String)| {
            let right = format!("\"session_count\":{count}}}");
            assert!(*status == 500 || body.ends_with(&right), "{body}");
            *status == 200
        };
        ask_all(server).iter().all(is_right) && red(server).is_empty()
    });
    answers(server, count);
}

/// `/readyz` says at once which check fails and why, and every answer is a 500.
#[track_caller]
fn fails(server: &Server, why: &str) {
    assert_eq!(red(server), why);
    for (status, body) in ask_all(server) {
        assert_eq!(status, 500, "{body}");
        assert!(body.contains("\"code\":30105000"), "{body}");
    }
}

fn remove(sandbox: &Sandbox, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::remove_file(sandbox.path(&format!("sessile.db{suffix}"))).unwrap();
    }
}

/// Writes into the file in place. It must not be open in this process by SQLite, whose locks would go.
fn scribble(sandbox: &Sandbox, offset: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(sandbox.database());
    file.unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// Copies over a file in place, as `cp` does.
fn copy(from: &Path, to: &Path) {
    assert!(
        Command::new("cp")
            .arg(from)
            .arg(to)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn replaced_by_rename() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    // On every worker, from the first request after it on, and not only at the first look.
    for count in 2..12 {
        fs::rename(filled(count).database(), sandbox.database()).unwrap();
        answers(&server, count);
    }
}

/// The file was written by others and has a WAL, which is no part of the one that takes its place, though SQLite
/// would read it as one.
#[test]
fn a_stale_wal_beside_a_new_file() {
    for is_checkpointed in [false, true] {
        let sandbox = filled(1);
        let server = sandbox.serve(&[]);
        let writer = sandbox.sqlite();
        insert(&writer, "in the WAL");
        if is_checkpointed {
            let passive = "PRAGMA wal_checkpoint(PASSIVE)";
            writer.query_row(passive, [], |_| Ok(())).unwrap();
        }
        answers(&server, 2);
        fs::rename(filled(40).database(), sandbox.database()).unwrap();
        fails(&server, "database: -wal of another file");
        drop(writer);
        fails(&server, "database: -wal of another file");
        remove(&sandbox, &["-wal", "-shm"]);
        answers(&server, 40);
        insert(&sandbox.sqlite(), "and the new one has its own");
        answers(&server, 41);
    }
}

/// The inode stays, and no event of the folder tells. Until it has been left alone for a while there is no answer.
#[test]
fn copied_over_in_place() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    for count in [3_000, 20, 3_001] {
        copy(&filled(count).database(), &sandbox.database());
        fails(&server, "database: file written over");
        answers_again(&server, count);
    }
}

/// Beside a WAL with commits a copy in place is a file with the newest pages of another.
#[test]
fn copied_over_in_place_beside_a_wal() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    let writer = sandbox.sqlite();
    insert(&writer, "in the WAL");
    answers(&server, 2);
    copy(&filled(3_000).database(), &sandbox.database());
    fails(&server, "database: file written over");
    wait_until("it has settled", || {
        red(&server) != "database: file written over"
    });
    fails(&server, "database: -wal of another file");
    drop(writer); // which brings its WAL into the new file, as SQLite does when the last one goes
    copy(&filled(3_000).database(), &sandbox.database());
    answers_again(&server, 3_000);
}

/// Written by SQLite alone, however often it brings its WAL into the file, it is never taken for written over.
#[test]
fn checkpoints_are_no_fault() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    crate::callers::beside_callers(
        &server,
        |before, count| count >= before,
        || {
            let writer = sandbox.sqlite();
            writer
                .execute_batch("PRAGMA wal_autocheckpoint = 5")
                .unwrap();
            for id in 0..2_000 {
                insert(&writer, &format!("new {id}"));
            }
            writer.execute_batch("VACUUM").unwrap();
        },
    );
    answers(&server, 2_001);
}

#[test]
fn deleted() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    remove(&sandbox, &[""]);
    fails(&server, "database: file missing");
    remove(&sandbox, &["-wal", "-shm"]);
    fails(&server, "database: file missing");
    sandbox.run(&["init"]).ok();
    answers(&server, 0);
}

#[test]
fn without_wal_or_shm() {
    for suffixes in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let sandbox = filled(1);
        let server = sandbox.serve(&[]);
        insert(&sandbox.sqlite(), "2");
        answers(&server, 2);
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        sandbox
            .sqlite()
            .query_row(truncate, [], |_| Ok(()))
            .unwrap();
        remove(&sandbox, suffixes);
        answers(&server, 2);
        insert(&sandbox.sqlite(), "3");
        answers(&server, 3);
    }
}

/// From the first request after it: nothing that its owner, or a guest, plants in a file is asked in our tables' place.
#[test]
fn another_schema() {
    for change in [
        "ALTER TABLE session RENAME TO old; CREATE VIEW session AS SELECT * FROM old",
        "ALTER TABLE session ADD COLUMN planted TEXT AS (hex(zeroblob(100000000)))",
        "ALTER TABLE session ADD COLUMN added TEXT",
        "DROP INDEX session_live",
        "DROP INDEX session_live; CREATE INDEX session_live ON session (user_id)",
    ] {
        let sandbox = filled(1);
        let server = sandbox.serve(&[]);
        answers(&server, 1);
        sandbox.sqlite().execute_batch(change).unwrap();
        // First on one connection after the other: readyz would be the one that notices.
        for (status, body) in ask_all(&server) {
            assert_eq!(status, 500, "{change}: {body}");
        }
        fails(&server, "database: not a sessile file");
        fs::rename(filled(2).database(), sandbox.database()).unwrap();
        remove(&sandbox, &["-wal", "-shm"]);
        answers(&server, 2);
    }
}

/// The format and the owner of a file are numbers in its header, and no part of the schema.
#[test]
fn another_format() {
    for (pragma, detail) in [
        ("user_version = 3", "file of another format"),
        ("application_id = 7", "not a sessile file"),
    ] {
        let sandbox = filled(1);
        let server = sandbox.serve(&[]);
        answers(&server, 1);
        sandbox
            .sqlite()
            .execute_batch(&format!("PRAGMA {pragma}"))
            .unwrap();
        wait_until(pragma, || !red(&server).is_empty());
        // Each worker believes for a tenth of a second that these numbers are what they were.
        sleep(Duration::from_millis(150));
        fails(&server, &format!("database: {detail}"));
        let back = "PRAGMA user_version = 2; PRAGMA application_id = 0x5345534C";
        sandbox.sqlite().execute_batch(back).unwrap();
        answers(&server, 1);
    }
}

#[test]
fn what_its_owner_may_add() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    let change = "CREATE TABLE theirs (x); CREATE INDEX by_ip ON session (ip); ANALYZE;
        CREATE TRIGGER planted AFTER INSERT ON session BEGIN INSERT INTO theirs VALUES (new.id); END";
    sandbox.sqlite().execute_batch(change).unwrap();
    answers(&server, 1);
    insert(&sandbox.sqlite(), "2");
    answers(&server, 2);
}

#[test]
fn a_damaged_header() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    let whole = fs::read(sandbox.database()).unwrap();
    scribble(&sandbox, 0, &[0; 100]);
    fails(&server, "database: file written over");
    wait_until("it has settled", || {
        red(&server) != "database: file written over"
    });
    assert!(
        red(&server).contains("database: not a SQLite database"),
        "{}",
        red(&server)
    );
    scribble(&sandbox, 0, &whole[..100]);
    answers_again(&server, 1);
}

/// Pages that hold nothing any more, but the first.
#[test]
fn damaged_pages() {
    let sandbox = filled(3_000);
    let server = sandbox.serve(&[]);
    answers(&server, 3_000);
    let whole = fs::read(sandbox.database()).unwrap();
    for page in 1..whole.len() / PAGE {
        scribble(&sandbox, page * PAGE, &[0; PAGE]);
    }
    fails(&server, "database: file written over");
    wait_until("the damage is met", || {
        red(&server).contains("file damaged")
    });
    scribble(&sandbox, 0, &whole);
    answers_again(&server, 3_000);
}

#[test]
fn cut() {
    let sandbox = filled(3_000);
    let server = sandbox.serve(&[]);
    answers(&server, 3_000);
    let whole = fs::read(sandbox.database()).unwrap();
    let file = File::options()
        .write(true)
        .open(sandbox.database())
        .unwrap();
    file.set_len(20_000).unwrap();
    for _ in 0..3 {
        for (status, body) in ask_all(&server) {
            assert_eq!(status, 500, "{body}");
        }
        assert!(red(&server).contains("database: file"), "{}", red(&server));
    }
    scribble(&sandbox, 0, &whole);
    answers_again(&server, 3_000);
}

/// A file whose writer lets nobody else in comes into its place.
#[test]
fn locked() {
    let sandbox = filled(1);
    let server = sandbox.serve(&[]);
    answers(&server, 1);
    let other = filled(2);
    let writer = other.sqlite();
    writer
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE")
        .unwrap();
    insert(&writer, "3");
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    writer.query_row(truncate, [], |_| Ok(())).unwrap();
    fs::rename(other.database(), sandbox.database()).unwrap();
    // A processor that is busy elsewhere may take the second until the bound.
    wait_until("it says why", || red(&server) == "database: file locked");
    assert_eq!(server.count("t", "u").status, 500);
    drop(writer);
    answers_again(&server, 3);
}

/// A server that is another user than the writer, in a folder that it may not write. `None`, with a printed reason,
/// where this process can't start one.
fn as_nobody(sandbox: &Sandbox) -> Option<Command> {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::Uid::effective().is_root() {
        skipped("only root can start a server as another user");
        return None;
    }
    for path in [
        sandbox.path("").as_path(),
        Path::new(env!("CARGO_BIN_EXE_sessile")),
    ] {
        if let Some(folder) = closed_to_others(path) {
            skipped(&format!("other users can't get into {}", folder.display()));
            return None;
        }
    }
    for name in ["", "sessile.db", "sessile.db-wal", "sessile.db-shm"] {
        let path = sandbox.path(name);
        let mode = if name.is_empty() { 0o755 } else { 0o644 };
        let _ = fs::set_permissions(path, PermissionsExt::from_mode(mode));
    }
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("INTERNAL_API_KEY", KEY).uid(NOBODY).gid(NOBODY);
    Some(command)
}

/// What is open stays open, whatever its mode; what comes into its place must be readable.
#[test]
fn made_unreadable() {
    let sandbox = filled(1);
    let _writer = sandbox.sqlite();
    insert(&_writer, "2");
    let Some(command) = as_nobody(&sandbox) else {
        return; // the reason is printed
    };
    let server = Server::start(command);
    answers(&server, 2);
    let mode = |mode| fs::set_permissions(sandbox.database(), PermissionsExt::from_mode(mode));
    mode(0o000).unwrap();
    answers(&server, 2);
    insert(&_writer, "3");
    answers(&server, 3);
    remove(&sandbox, &["-wal", "-shm"]);
    fails(&server, "database: file can't be opened");
    mode(0o644).unwrap();
}

/// The server may write neither the file nor its folder, so that it can't make the -shm that every reader needs.
#[test]
fn the_last_writer_gone() {
    let sandbox = filled(1);
    let writer = sandbox.sqlite();
    insert(&writer, "2");
    let Some(command) = as_nobody(&sandbox) else {
        return; // the reason is printed
    };
    let server = Server::start(command);
    answers(&server, 2);
    insert(&writer, "3");
    answers(&server, 3);
    drop(writer); // the server keeps -wal and -shm in use
    answers(&server, 3);
    insert(&sandbox.sqlite(), "4");
    answers(&server, 4);
    // Of a file that comes without them it can read nothing, until somebody comes who may make them.
    let other = filled(50);
    fs::set_permissions(other.database(), PermissionsExt::from_mode(0o644)).unwrap();
    remove(&sandbox, &["-wal", "-shm"]);
    fs::rename(other.database(), sandbox.database()).unwrap();
    fails(&server, "database: file can't be opened");
    let writer = sandbox.sqlite();
    insert(&writer, "51");
    answers(&server, 51);
}

/// What is open needs no room. To open a file that comes into its place, a little is needed, for its -shm.
#[test]
fn a_full_disk() {
    let sandbox = Sandbox::new();
    let Some(small) = Small::mount(sandbox.path("small")) else {
        return; // the reason is printed
    };
    let [file, other, filler] =
        ["sessile.db", "other.db", "filler"].map(|name| sandbox.path("small").join(name));
    fs::copy(filled(1).database(), &file).unwrap();
    fs::copy(filled(2).database(), &other).unwrap();
    let server = sandbox.serve(&["--database", file.to_str().unwrap()]);
    answers(&server, 1);
    let fill = || {
        let _ = fs::write(&filler, vec![0; 20_000_000]);
    };
    fill();
    answers(&server, 1);
    let writer = Connection::open(&file).unwrap();
    let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        VALUES ('t', 'more', 'u', 0, 9999999999999)";
    assert!(writer.execute(sql, []).is_err());
    answers(&server, 1);
    drop(writer);
    // The server lets go of the old one before the room that it gives back is taken.
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(sandbox.path(&format!("small/sessile.db{suffix}"))).unwrap();
    }
    fails(&server, "database: file missing");
    fill();
    fs::rename(&other, &file).unwrap();
    fails(&server, "database: disk full");
    small.grow();
    answers_again(&server, 2);
}

/// The leaves of the tree at page `root` (counted from 1), as offsets into the file.
/// <https://www.sqlite.org/fileformat2.html>, section 1.6.
fn leaves(file: &[u8], root: usize, found: &mut Vec<usize>) {
    let start = (root - 1) * PAGE;
    let page = &file[start..start + PAGE];
    let number = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().unwrap()) as usize;
    let short = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    match page[0] {
        0x02 => {
            for cell in 0..short(3) {
                leaves(file, number(short(12 + 2 * cell)), found);
            }
            leaves(file, number(8), found);
        }
        0x0A => found.push(start),
        kind => panic!("a page of the kind {kind}"),
    }
}

/// Two leaves of the index stand in each other's place, as after a write that went astray below the file system:
/// each count is one of a sound-looking page.
#[test]
fn leaves_of_the_index_swapped() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "database.integrity_check_interval = \"1s\"");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        SELECT 't', i, 'user ' || (i / 3), 0, 9999999999999 FROM n";
    sandbox.sqlite().execute_batch(many).unwrap();
    let root = sandbox.number("SELECT rootpage FROM sqlite_schema WHERE name = 'session_live'");
    let whole = fs::read(sandbox.database()).unwrap();
    let mut found = Vec::new();
    leaves(&whole, root.try_into().unwrap(), &mut found);
    let [.., one, two] = found[..found.len() - 5] else {
        panic!("{found:?}");
    };
    let server = sandbox.serve(&[]);
    wait_until("the file is checked", || {
        server
            .ask(&request("GET", "/readyz", &[]))
            .body
            .contains("sound")
    });
    // By a process that has the file open, so that no event tells: a mapping, as the disk's own errors tell of none.
    scribble(&sandbox, one, &whole[two..two + PAGE]);
    scribble(&sandbox, two, &whole[one..one + PAGE]);
    wait_until("the damage is found", || {
        red(&server).contains("integrity: file damaged")
    });
    wait_until("the file is read all the same", || {
        red(&server) == "integrity: file damaged"
    });
    let status = |user: u32| server.count("t", &format!("user%20{user}")).status;
    assert_eq!(status(1), 200, "who is not touched by it is answered");
    // `check` and `explain` are as they were, too.
    sandbox.run(&["check", "--tenant", "t", "user 1"]).ok();
    scribble(&sandbox, 0, &whole);
    wait_until("it is mended", || red(&server).is_empty());
    let checked = server.count("t", "user%201");
    assert_eq!(checked.body, r#"{"active":true,"session_count":3}"#);
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert_eq!(
        log.matches("answers may be wrong").count(),
        1,
        "told once: {log}"
    );
    assert_eq!(log.matches("sound again").count(), 1, "{log}");
}

/// A damaged file that another takes the place of is looked at soon, not in an hour.
#[test]
fn a_damaged_file_replaced() {
    let sandbox = filled(3_000);
    let whole = fs::read(sandbox.database()).unwrap();
    let root = sandbox.number("SELECT rootpage FROM sqlite_schema WHERE name = 'session_live'");
    let mut found = Vec::new();
    leaves(&whole, root.try_into().unwrap(), &mut found);
    scribble(&sandbox, found[1], &whole[found[2]..found[2] + PAGE]);
    let server = sandbox.serve(&[]);
    wait_until("the damage is found", || {
        red(&server) == "integrity: file damaged"
    });
    fs::rename(filled(2).database(), sandbox.database()).unwrap();
    wait_until("the other file is checked", || red(&server).is_empty());
    answers(&server, 2);
}

/// Nothing is looked for where that is not wanted.
#[test]
fn the_check_can_be_turned_off() {
    let sandbox = filled(1);
    sandbox.write(
        "sessile.toml",
        "database.integrity_check_interval = \"off\"",
    );
    let server = sandbox.serve(&[]);
    let ready = server.ask(&request("GET", "/readyz", &[]));
    assert_eq!(ready.json()["checks"][2]["detail"], "off", "{ready:?}");
}
