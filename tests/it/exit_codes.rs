//! The ends of commands: their codes, and the one sentence that says what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{KEY, Sandbox};

fn serve(sandbox: &Sandbox) -> crate::support::Ended {
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("INTERNAL_API_KEY", KEY)
        .output()
        .unwrap()
        .into()
}

/// `serve`, `check` and `import` all refuse the file with 4 and the same sentence.
#[track_caller]
fn refused(sandbox: &Sandbox, sentence: &str) {
    let one = "{\"tenant_id\":\"t\",\"id\":\"s\",\"user_id\":\"u\",\"expires_in\":\"1h\"}";
    for ended in [
        serve(sandbox),
        sandbox.run(&["check", "--tenant", "t", "u"]),
        sandbox.run_with_input(&["import", "-"], one.as_bytes()),
    ] {
        let error = ended.failed(4);
        let last = error.lines().last().unwrap();
        assert_eq!(last.matches(sentence).count(), 1, "said once: {error}");
        assert!(
            last.starts_with("sessile: sessile.db: ") && last.contains(sentence),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_is_4() {
    refused(
        &Sandbox::new(),
        "there is no such file; `sessile init` makes one",
    );
}

#[test]
fn a_text_file_is_4() {
    let sandbox = Sandbox::new();
    sandbox.write("sessile.db", &"no database at all\n".repeat(100));
    refused(&sandbox, "it is not a SQLite database");
    sandbox.run(&["init"]).failed(4);
    assert!(
        fs::read_to_string(sandbox.database())
            .unwrap()
            .starts_with("no database"),
        "init left it alone"
    );
}

#[test]
fn an_empty_file_is_4() {
    let sandbox = Sandbox::new();
    sandbox.write("sessile.db", "");
    refused(&sandbox, "it is an empty database");
}

#[test]
fn a_foreign_file_is_4() {
    let sandbox = Sandbox::new();
    sandbox
        .sqlite()
        .execute_batch("CREATE TABLE session (id); PRAGMA application_id = 7")
        .unwrap();
    refused(&sandbox, "another program (application_id 0x00000007");
    assert!(
        sandbox
            .run(&["init"])
            .failed(4)
            .contains("name another path")
    );
}

#[test]
fn a_newer_file_is_4() {
    let sandbox = Sandbox::with_file();
    sandbox
        .sqlite()
        .execute_batch("PRAGMA user_version = 3")
        .unwrap();
    refused(
        &sandbox,
        "its format is 3, which is newer than the format 2",
    );
}

#[test]
fn a_misshapen_file_is_4() {
    for (change, object) in [
        ("ALTER TABLE session ADD COLUMN extra TEXT", "session"),
        ("DROP INDEX session_live", "session_live"),
        (
            "DROP INDEX session_live; CREATE INDEX session_live ON session (tenant_id)",
            "session_live",
        ),
        (
            "ALTER TABLE session RENAME TO old; CREATE VIEW session AS SELECT * FROM old",
            "session",
        ),
    ] {
        let sandbox = Sandbox::with_file();
        sandbox.sqlite().execute_batch(change).unwrap();
        refused(&sandbox, &format!("its {object} is not that of schema.sql"));
    }
}

#[test]
fn a_file_without_wal_is_4() {
    let sandbox = Sandbox::with_file();
    sandbox
        .sqlite()
        .execute_batch("PRAGMA journal_mode = DELETE")
        .unwrap();
    refused(&sandbox, "its journal mode is delete, not WAL");
}

#[test]
fn other_tables_and_indexes_in_the_file_are_nobodys_business() {
    let sandbox = Sandbox::with_file();
    let others = "CREATE TABLE theirs (x); CREATE INDEX by_ip ON session (ip); ANALYZE";
    sandbox.sqlite().execute_batch(others).unwrap();
    assert_eq!(
        sandbox.run(&["check", "--tenant", "t", "u"]).stdout,
        "inactive: 0 sessions\n"
    );
}

#[test]
fn no_key_is_3() {
    let sandbox = Sandbox::with_file();
    let error = sandbox.run(&["serve"]).failed(3);
    assert!(
        error.contains("found no API key") && error.contains("sessile key new NAME"),
        "{error}"
    );
}

#[test]
fn an_address_in_use_is_5() {
    let sandbox = Sandbox::with_file();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = sandbox.command(&["serve", "--listen", &address]);
    let ended: crate::support::Ended = command
        .env("INTERNAL_API_KEY", KEY)
        .output()
        .unwrap()
        .into();
    let error = ended.failed(5);
    let sentence = format!(
        "can't listen on {address}: another process listens there; stop it, or set server.listen"
    );
    assert!(error.contains(&sentence), "{error}");
}

/// The README and the help of the program tell the same, in the same words.
#[test]
fn exit_codes_are_documented_alike() {
    let help = Sandbox::new().run(&["--help"]).ok();
    let (_, help) = help.split_once("Exit codes: ").unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, readme) = readme.split_once("## Exit codes").unwrap();
    for code in 0..=5 {
        let (_, meaning) = help.split_once(&format!("{code} ")).unwrap();
        let meaning = meaning.split([';', '.', '(']).next().unwrap().trim();
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| {code} | {meaning}")));
        assert!(row.is_some(), "{code} {meaning}");
    }
}

#[test]
fn usage_is_2() {
    let sandbox = Sandbox::new();
    for args in [
        &["nonsense"][..],
        &[],
        &["check", "u"],
        &["check", "--tenant", "a b", "u"],
        &["check", "--tenant", "t", ""],
        &["check", "--tenant", "t", "u", "--at", "yesterday"],
        &["import"],
        &["key", "new", ""],
        &["key", "new", "a b"],
        &["serve", "--demo", "--database", "x"],
        &["backup"],
        &["restore"],
    ] {
        assert!(!sandbox.run(args).failed(2).is_empty());
    }
    sandbox.run(&["init"]).ok();
    let early = sandbox.run_with_input(&["import", "--at", "1960-01-01T00:00:00Z", "-"], b"");
    assert!(early.failed(2).contains("from the year 1970"));
    assert!(
        sandbox
            .run(&["import", "missing.json"])
            .failed(2)
            .contains("missing.json")
    );
}

#[test]
fn check_says_no_by_1() {
    let sandbox = Sandbox::with_file();
    sandbox.import("{\"tenant_id\":\"t\",\"id\":\"s\",\"user_id\":\"u\",\"expires_in\":\"1h\"}");
    let yes = sandbox.run(&["check", "--tenant", "t", "u"]);
    assert_eq!(
        (yes.code, yes.stdout.as_str()),
        (Some(0), "active: 1 session\n")
    );
    let no = sandbox.run(&["check", "--tenant", "t", "U"]);
    assert_eq!(
        (no.code, no.stdout.as_str()),
        (Some(1), "inactive: 0 sessions\n")
    );
    let json = sandbox.run(&["check", "--tenant", "t", "--json", "--", "-1"]);
    assert_eq!(
        (json.code, json.stdout.as_str()),
        (Some(1), "{\"active\":false,\"session_count\":0}\n")
    );
}

#[test]
fn init_makes_a_file_for_a_group_and_leaves_one_as_it_is() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.run(&["init", "--database", "new.db"]).ok(),
        "made new.db\n"
    );
    let mode = fs::metadata(sandbox.path("new.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o007, 0, "others may not read it: {mode:o}");
    let before = fs::read(sandbox.path("new.db")).unwrap();
    assert!(
        sandbox
            .run(&["init", "--database", "new.db"])
            .ok()
            .contains("left as it is")
    );
    assert_eq!(fs::read(sandbox.path("new.db")).unwrap(), before);
    let error = sandbox
        .run(&["init", "--database", "no/such/folder/x.db"])
        .failed(4);
    assert!(error.contains("no/such/folder/x.db"), "{error}");
}

#[test]
fn a_new_key_works_and_is_shown_once() {
    let sandbox = Sandbox::with_file();
    let printed = sandbox.run(&["key", "new", "login"]).ok();
    let key = printed.lines().next().unwrap();
    assert_eq!(key.len(), 64, "256 bits in hexadecimal");
    assert_eq!(printed.matches(key).count(), 1);
    assert_ne!(
        sandbox
            .run(&["key", "new", "login"])
            .ok()
            .lines()
            .next()
            .unwrap(),
        key
    );
    let lines = &printed[printed.find("[[auth.keys]]").unwrap()..];
    sandbox.write("sessile.toml", lines);
    let server =
        crate::support::Server::start(sandbox.command(&["serve", "--listen", "127.0.0.1:0"]));
    let fields = [("X-API-Key", key), ("X-Tenant-ID", "t")];
    assert_eq!(
        server.ask(&crate::support::question("u", &fields)).status,
        200
    );
}

#[test]
fn a_new_key_is_told_to_programs() {
    let sandbox = Sandbox::new();
    let printed = sandbox.run(&["key", "new", "--json", "login"]).ok();
    let made: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let key = made["key"].as_str().unwrap();
    let digest = sessile::api::auth::Digest::of(key.as_bytes());
    assert_eq!(
        printed,
        format!("{{\"name\":\"login\",\"key\":\"{key}\",\"sha256\":\"{digest}\"}}\n")
    );
}

/// A closed pipe is no verdict: what a command found is what it ends with.
#[test]
fn a_reader_that_has_had_enough_changes_no_exit_code() {
    let sandbox = Sandbox::with_file();
    let ends = |args: &[&str]| {
        let mut command = sandbox.command(args);
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().unwrap().code()
    };
    assert_eq!(ends(&["check", "--tenant", "t", "u"]), Some(1));
    sandbox.write("bad", &"{}\n".repeat(200));
    assert_eq!(ends(&["import", "bad"]), Some(2));
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(&["config"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
