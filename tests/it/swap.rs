//! `swap`: another file in the place of the served one, which servers go over to without a refused or a wrong answer.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::callers::{Stop, beside_callers};
use crate::support::{Ended, KEY, Sandbox, Server, Small, closed_to_others, question, skipped};

/// A file that somebody writes elsewhere, of which copies come.
struct Writer(Sandbox);

impl Writer {
    fn new() -> Self {
        Self(Sandbox::with_file())
    }

    /// Adds sessions of user `u` in tenant `t`.
    fn add(&self, count: usize) {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
             SELECT 't', hex(randomblob(16)), 'u', 0, 9999999999999 FROM n"
        );
        self.0.sqlite().execute_batch(&sql).unwrap();
    }

    fn beat(&self) {
        self.0.run(&["heartbeat"]).ok();
    }

    /// The newest state, as `new.db` of the reader.
    fn copy_to(&self, reader: &Sandbox) {
        self.0.run(&["backup", "--force", "copy.db"]).ok();
        fs::copy(self.0.path("copy.db"), reader.path("new.db")).unwrap();
    }
}

/// A writer, and a reader that has its first state, with one session.
fn nodes() -> (Writer, Sandbox) {
    let (writer, reader) = (Writer::new(), Sandbox::new());
    writer.add(1);
    writer.beat();
    writer.copy_to(&reader);
    let said = reader.run(&["swap", "new.db"]).ok();
    let begin = "sessile.db is now what was new.db: 1 session, heartbeat 2";
    assert!(
        said.starts_with(begin) && said.ends_with(" ago\n"),
        "{said}"
    );
    let mode = |sandbox: &Sandbox| fs::metadata(sandbox.database()).unwrap().mode();
    assert_eq!(mode(&reader), mode(&writer.0), "as `init` makes one");
    (writer, reader)
}

fn count(server: &Server) -> u64 {
    let fields = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];
    let response = server.ask(&question("u", &fields));
    response.json()["session_count"].as_u64().unwrap()
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let names = fs::read_dir(sandbox.path(".")).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whoever asks after a swap is answered from the new file, on every worker, and nobody is refused meanwhile; nor is
/// who opens the file while a server still has the old one open.
#[test]
fn a_server_goes_over_at_its_next_request() {
    let (writer, reader) = nodes();
    let server = reader.serve(&[]);
    let mut connections: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let fields = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];
    let follows = |before, now| now == before || now == before + 1;
    beside_callers(&server, follows, || {
        for state in 2..=12u64 {
            writer.add(1);
            writer.beat();
            writer.copy_to(&reader);
            reader.run(&["swap", "new.db"]).ok();
            let checked = reader.run(&["check", "--tenant", "t", "u"]).ok();
            assert_eq!(checked, format!("active: {state} sessions\n"));
            for connection in &mut connections {
                let response = connection.ask(&question("u", &fields));
                assert_eq!(response.json()["session_count"], state);
            }
        }
    });
    server.signal("-TERM");
    let log = server.ended().stderr;
    let told: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(told.iter().all(|line| line["level"] == "INFO"), "{log}");
}

/// A server that nobody asks has the old file open all the time: what it has of its -shm is not for the new one.
#[test]
fn nothing_of_the_old_file_is_taken_for_the_new_one() {
    let (writer, reader) = nodes();
    // Once written here, and brought home: the -shm tells how long this file is.
    let local = reader.sqlite();
    local
        .execute_batch("CREATE TABLE large AS SELECT zeroblob(1000000)")
        .unwrap();
    let server = reader.serve(&[]);
    assert_eq!(count(&server), 1);
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    local.query_row(checkpoint, [], |_| Ok(())).unwrap();
    writer.add(20_000);
    writer.beat();
    writer.copy_to(&reader);
    reader.run(&["swap", "new.db"]).ok();
    let opened = reader.sqlite();
    let sql = "SELECT (SELECT count(*) FROM session) || (SELECT group_concat(integrity_check) FROM pragma_integrity_check)";
    let found: String = opened.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "20001ok");
    drop(opened);
    assert_eq!(count(&server), 20_001);
    drop(local);
    assert_eq!(count(&server), 20_001);
}

#[test]
fn it_is_as_open_as_the_one_before_and_leaves_nothing_behind() {
    let (writer, reader) = nodes();
    let database = reader.database();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    let before = names(&reader);
    writer.copy_to(&reader);
    fs::set_permissions(reader.path("new.db"), fs::Permissions::from_mode(0o600)).unwrap();
    reader.write("new.db-wal", "");
    reader.write("new.db-shm", "what is left of a restore");
    let inode = fs::metadata(reader.path("new.db")).unwrap().ino();
    let json = reader.run(&["swap", "--json", "new.db"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["new"], &json["sessions"]),
        (&"new.db".into(), &1.into())
    );
    assert!(json["heartbeat_at"].is_string());
    let found = fs::metadata(&database).unwrap();
    assert_eq!((found.ino(), found.mode() & 0o777), (inode, 0o640));
    assert_eq!(names(&reader), before);

    // A symbolic link to the file stays one.
    let (away, link) = (reader.path("elsewhere.db"), reader.path("link.db"));
    fs::rename(&database, &away).unwrap();
    symlink(&away, &link).unwrap();
    writer.copy_to(&reader);
    // And one to the new file is not what comes into the place.
    fs::create_dir(reader.path("folder")).unwrap();
    fs::rename(reader.path("new.db"), reader.path("folder/new.db")).unwrap();
    symlink("folder/new.db", reader.path("new.db")).unwrap();
    reader
        .run(&["swap", "--database", "link.db", "new.db"])
        .ok();
    assert!(link.is_symlink() && !away.is_symlink());
    assert!(!reader.path("new.db").exists());

    // One that was made beforehand, for its mode.
    writer.copy_to(&reader);
    let touched = reader.write("touched.db", "");
    fs::set_permissions(&touched, fs::Permissions::from_mode(0o664)).unwrap();
    let ended = reader.run(&["swap", "--database", "touched.db", "new.db"]);
    assert_eq!(ended.stderr, "");
    ended.ok();
    assert_eq!(fs::metadata(&touched).unwrap().mode() & 0o777, 0o664);
}

/// Those who open the file meanwhile, as commands do, meet the old one or the new one.
#[test]
fn commands_beside_it_meet_one_of_both() {
    let (writer, reader) = nodes();
    let _server = reader.serve(&[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ask = |args: &'static [&str]| {
            let (reader, done) = (&reader, &done);
            scope.spawn(move || {
                let (mut last, mut times) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let said: Value = serde_json::from_str(&reader.run(args).ok()).unwrap();
                    let count = said["session_count"].as_u64().or(said["sessions"].as_u64());
                    assert!(count.unwrap() >= last, "{last} became {said}");
                    (last, times) = (count.unwrap(), times + 1);
                }
                times
            })
        };
        let asking = [
            ask(&["stats", "--json"]),
            ask(&["check", "--json", "--tenant", "t", "u"]),
        ];
        let stop = Stop(&done);
        for _ in 0..30 {
            // A different length each time.
            writer.add(1_000);
            writer.beat();
            writer.copy_to(&reader);
            reader.run(&["swap", "new.db"]).ok();
        }
        drop(stop);
        for asked in asking {
            assert!(asked.join().unwrap() > 30, "beside every swap");
        }
    });
}

/// As root, and as who may not.
#[test]
fn it_belongs_to_whom_the_one_before_belonged() {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::Uid::effective().is_root() {
        return skipped("only root can give files to others");
    }
    let (writer, reader) = nodes();
    let database = reader.database();
    chown(&database, Some(NOBODY), Some(NOBODY)).unwrap();
    writer.copy_to(&reader);
    reader.run(&["swap", "new.db"]).ok();
    let found = fs::metadata(&database).unwrap();
    assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY));

    let folder = reader.path("").canonicalize().unwrap();
    for path in [folder.join("x"), env!("CARGO_BIN_EXE_sessile").into()] {
        if let Some(closed) = closed_to_others(&path).filter(|closed| *closed != folder) {
            return skipped(&format!("others can't get into {}", closed.display()));
        }
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let swap = |owner: u32| {
        writer.copy_to(&reader);
        let new = reader.path("new.db");
        chown(&new, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = reader.command(&["swap", "new.db"]);
        Ended::from(command.uid(NOBODY).gid(NOBODY).output().unwrap())
    };
    swap(NOBODY).ok();
    let refusal = |sentence: &str, ended: Ended| {
        let said = ended.failed(4);
        assert!(
            said.contains(sentence) && said.ends_with("run this as that user\n"),
            "{said}"
        );
    };
    // Its mode is not to change for somebody else's file, nor is its owner.
    refusal("the user 65534 and the group 65534", swap(0));
    chown(&database, Some(0), Some(0)).unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    refusal(
        "it can't be given to the user 0 and the group 0",
        swap(NOBODY),
    );
}

/// What was refused is told in a sentence, and both files are as they were.
#[track_caller]
fn refused(reader: &Sandbox, args: &[&str], sentence: &str) {
    let contents = |name| fs::read(reader.path(name)).ok();
    let before = ["sessile.db", "new.db"].map(contents);
    let said = reader.run(&[&["swap"], args].concat()).failed(4);
    assert!(said.contains(sentence), "{said}");
    assert_eq!(["sessile.db", "new.db"].map(contents), before, "{sentence}");
}

#[test]
fn a_file_that_is_written_here_is_left_alone() {
    let (writer, reader) = nodes();
    writer.beat();
    writer.copy_to(&reader);
    let local = reader.sqlite();
    local
        .execute_batch("UPDATE session SET user_id = user_id")
        .unwrap();
    let bytes = fs::metadata(reader.path("sessile.db-wal")).unwrap().len();
    refused(
        &reader,
        &["--force", "new.db"],
        &format!("/sessile.db-wal has {bytes} bytes, so somebody writes here"),
    );
    drop(local); // the last one to close it brings its WAL home
    reader.run(&["swap", "new.db"]).ok();

    // Of a file that is gone.
    fs::remove_file(reader.database()).unwrap();
    writer.copy_to(&reader);
    reader.write("sessile.db-wal", "stale");
    refused(&reader, &["new.db"], "sessile.db-wal has 5 bytes");

    // Of a link that leads nowhere, as to a disk that is not there yet.
    fs::remove_file(reader.path("sessile.db-wal")).unwrap();
    symlink("disk/sessile.db", reader.database()).unwrap();
    refused(&reader, &["new.db"], "sessile.db: there is no such file");
    assert!(reader.database().is_symlink());
}

#[test]
fn a_file_of_others_is_left_alone() {
    let (writer, reader) = nodes();
    writer.copy_to(&reader);
    let database = reader.database();
    fs::remove_file(&database).unwrap();
    Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    refused(
        &reader,
        &["new.db"],
        "is not a sessile file; name another path",
    );
    fs::write(&database, "text\n".repeat(1_000)).unwrap();
    refused(&reader, &["--force", "new.db"], "is not a sessile file");
}

/// One of ours that is damaged is what one would most like to be rid of.
#[test]
fn a_damaged_file_is_replaced() {
    let (writer, reader) = nodes();
    let mut bytes = fs::read(reader.database()).unwrap();
    bytes[100..].fill(0xFF);
    fs::write(reader.database(), bytes).unwrap();
    writer.copy_to(&reader);
    let ended = reader.run(&["swap", "new.db"]);
    assert!(
        ended
            .stderr
            .contains("warning: the file that was there could not be read"),
        "{ended:?}"
    );
    ended.ok();
    assert_eq!(
        reader.run(&["check", "--tenant", "t", "u"]).ok(),
        "active: 1 session\n"
    );
}

#[test]
fn only_a_sound_file_of_ours_is_taken() {
    let (writer, reader) = nodes();
    refused(&reader, &["new.db"], "new.db: there is no such file");
    refused(&reader, &["sessile.db"], "it is the data file itself");
    writer.copy_to(&reader);
    let new = reader.path("new.db");
    let whole = fs::read(&new).unwrap();

    fs::write(reader.path("new.db-wal"), "commits").unwrap();
    refused(&reader, &["new.db"], "new.db-wal, so it is in use");
    fs::remove_file(reader.path("new.db-wal")).unwrap();

    fs::write(&new, &whole[..whole.len() - 4_096]).unwrap();
    refused(&reader, &["new.db"], "new.db: it is damaged");
    fs::write(&new, "text\n".repeat(1_000)).unwrap();
    refused(&reader, &["new.db"], "new.db: it is not a SQLite database");
    fs::write(&new, "").unwrap();
    refused(&reader, &["new.db"], "new.db: it is an empty database");
    let change = |sql: &str| {
        fs::write(&new, &whole).unwrap();
        Connection::open(&new).unwrap().execute_batch(sql).unwrap();
    };
    change("DROP INDEX session_live");
    refused(
        &reader,
        &["new.db"],
        "its session_live is not that of schema.sql",
    );
    change("PRAGMA user_version = 3");
    refused(&reader, &["new.db"], "its format is 3, which is newer");
    change("PRAGMA journal_mode = DELETE");
    refused(
        &reader,
        &["new.db"],
        "its journal mode is that of a rollback journal, not WAL",
    );
}

/// Neither by another disk, nor by another place where the same disk is mounted.
#[test]
fn what_a_rename_can_not_move_is_refused() {
    let (writer, reader) = nodes();
    let Some(_small) = Small::mount(reader.path("small")) else {
        return; // the reason is printed
    };
    let _bound = Small::bind(&reader.path(""), reader.path("bound"));
    writer.copy_to(&reader);
    fs::copy(reader.path("new.db"), reader.path("small/new.db")).unwrap();
    let server = reader.serve(&[]);
    let shm = || fs::metadata(reader.path("sessile.db-shm")).unwrap().ino();
    let before = shm();
    let sentence = "it is on another file system than ";
    refused(&reader, &["small/new.db"], sentence);
    assert_eq!(shm(), before, "the server need not look again");
    refused(&reader, &["bound/new.db"], sentence);
    assert_eq!(count(&server), 1);
}

#[test]
fn contents_do_not_go_back() {
    let (writer, reader) = nodes();
    writer.copy_to(&reader);
    let older = fs::read(reader.path("new.db")).unwrap();
    writer.beat();
    writer.copy_to(&reader);
    reader.run(&["swap", "new.db"]).ok();
    let stamp = |json: &str| -> String {
        let json: Value = serde_json::from_str(json).unwrap();
        json["heartbeat_at"].as_str().unwrap().to_owned()
    };
    let served = stamp(&reader.run(&["stats", "--json"]).ok());

    fs::write(reader.path("new.db"), &older).unwrap();
    let sentence = format!("and the heartbeat of the file that is served is of {served}; --force");
    refused(&reader, &["new.db"], &sentence);
    let back = reader.run(&["swap", "--json", "--force", "new.db"]).ok();
    assert!(stamp(&back) < served);

    writer
        .0
        .sqlite()
        .execute_batch("DROP TABLE sessile_heartbeat")
        .unwrap();
    writer.copy_to(&reader);
    refused(
        &reader,
        &["new.db"],
        "it has no heartbeat, and the heartbeat of",
    );
    reader.run(&["swap", "--force", "new.db"]).ok();
    // Where neither has one there is nothing to compare.
    writer.copy_to(&reader);
    reader.run(&["swap", "new.db"]).ok();

    let ahead = "CREATE TABLE sessile_heartbeat (id INTEGER PRIMARY KEY, at INTEGER);
                 INSERT INTO sessile_heartbeat VALUES (1, 9999999999999)";
    writer.0.sqlite().execute_batch(ahead).unwrap();
    writer.copy_to(&reader);
    let ended = reader.run(&["swap", "new.db"]);
    assert!(
        ended.stderr.contains("by the clock here; keep the clocks"),
        "{ended:?}"
    );
    ended.ok();
}

/// Killed at any moment, it leaves the old file or the new one, whole, and can be run again.
#[test]
fn a_killed_swap_has_done_all_or_nothing() {
    let (writer, reader) = nodes();
    writer.add(20_000);
    let server = reader.serve(&[]);
    let follows = |before: u64, now: u64| before <= now && (now == 1 || now == 20_001);
    beside_callers(&server, follows, || {
        let (mut killed, mut delay) = (0, Duration::from_millis(1));
        while delay < Duration::from_secs(20) {
            writer.beat();
            writer.copy_to(&reader);
            let mut command = reader.command(&["swap", "new.db"]);
            let mut swap = command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            sleep(delay); // a later moment each time, whichever it is
            let _ = swap.kill();
            let ended = Ended::from(swap.wait_with_output().unwrap());
            let checked = reader.run(&["check", "--tenant", "t", "u"]).ok();
            assert!(
                checked == "active: 1 session\n" || checked == "active: 20001 sessions\n",
                "{checked}"
            );
            if ended.code.is_some() {
                ended.ok();
                break;
            }
            killed += 1;
            delay = delay.mul_f64(1.4);
        }
        assert!(killed > 0);
    });
    assert_eq!(count(&server), 20_001);
}
