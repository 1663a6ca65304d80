//! `doctor`: what it finds, that what it advises helps, and that it leaves no trace.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::backup::{damage, insert, names, of_format_1};
use crate::callers::beside_callers;
use crate::support::{Ended, KEY, Sandbox, skipped};

/// A file, and a configuration with a key and with an address that is free.
fn healthy() -> Sandbox {
    let sandbox = Sandbox::with_file();
    configure(&sandbox, "");
    sandbox
}

fn configure(sandbox: &Sandbox, more: &str) {
    let digest = sessile::api::auth::Digest::of(b"the key of billing");
    let key = format!("[[auth.keys]]\nname = \"billing\"\nsha256 = \"{digest}\"\n");
    sandbox.write(
        "sessile.toml",
        &format!("server.listen = \"127.0.0.1:0\"\n{key}{more}"),
    );
}

fn doctor(sandbox: &Sandbox, args: &[&str]) -> Ended {
    sandbox.run(&[&["doctor"], args].concat())
}

/// The findings called `name` that are not ok: status, what was found, what mends it.
#[track_caller]
fn trouble(ended: &Ended, name: &str) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let trouble: Vec<_> = findings
        .filter(|finding| finding["name"] == name && finding["status"] != "ok")
        .map(|finding| {
            (
                text(&finding["status"]),
                text(&finding["found"]),
                text(&finding["mend"]),
            )
        })
        .collect();
    let is_unfit = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .any(|finding| finding["status"] == "fault");
    assert_eq!(report["fit"], !is_unfit);
    assert_eq!(ended.code, Some(i32::from(is_unfit)), "{ended:?}");
    trouble
}

/// Runs an advised command as an operator would, in the sandbox, with this program on the path.
#[track_caller]
fn follow(sandbox: &Sandbox, advice: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_sessile")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", advice])
        .current_dir(sandbox.path(""))
        .env("PATH", path);
    Ended::from(shell.output().unwrap()).ok();
}

#[test]
fn a_sound_installation_is_fit() {
    let sandbox = healthy();
    insert(&sandbox.sqlite(), 1..=3);
    let json = doctor(&sandbox, &["--json"]);
    if !trouble(&json, "file system").is_empty() || !trouble(&json, "space").is_empty() {
        return skipped("the folder for temporary files is none to keep a data file in");
    }
    let folder = sandbox
        .path("")
        .canonicalize()
        .unwrap()
        .display()
        .to_string();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(folder.trim_end_matches('/'), "[folder]");
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[instant]");
    settings.add_filter(r"[\d.]+ MB", "[size]");
    settings.add_filter(r"type 0x[0-9A-F]+", "type [number]");
    settings.add_filter(
        r"is \S+:\S+ \d{4}, its folder \S+:\S+ \d{4}",
        "is [of], its folder [of]",
    );
    settings.bind(|| {
        insta::assert_snapshot!(
            [
                doctor(&sandbox, &[]).ok(),
                doctor(&sandbox, &["--quick", "--json"])
                    .ok()
                    .replace("},{", "},\n{"),
            ]
            .concat()
        );
    });
}

/// Whoever runs it makes no -wal and -shm that the users at work could not use.
#[test]
fn it_leaves_no_trace() {
    let sandbox = healthy();
    insert(&sandbox.sqlite(), 1..=3);
    let before = (names(&sandbox), fs::read(sandbox.database()).unwrap());
    doctor(&sandbox, &[]).ok();
    assert_eq!(
        (names(&sandbox), fs::read(sandbox.database()).unwrap()),
        before
    );
}

#[test]
fn it_looks_at_a_file_that_is_in_use() {
    let sandbox = healthy();
    let server = sandbox.serve(&[]);
    let toml = fs::read_to_string(sandbox.path("sessile.toml")).unwrap();
    sandbox.write(
        "sessile.toml",
        &toml.replace("127.0.0.1:0", &server.address),
    );
    beside_callers(
        &server,
        |before, count| count >= before,
        || {
            let writer = sandbox.sqlite();
            for number in 1..=10 {
                insert(&writer, number..=number);
                let ended = doctor(&sandbox, &["--json"]);
                assert!(ended.stdout.contains("a sessile answers at"), "{ended:?}");
                ended.ok();
            }
        },
    );
}

/// Each is found under its name with its sentence, and gone once the advice is followed.
#[test]
fn what_it_advises_helps() {
    type Change<'c> = &'c dyn Fn(&Sandbox);
    let sql = |sandbox: &Sandbox, sql: &str| sandbox.sqlite().execute_batch(sql).unwrap();
    let chmod = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };
    let cases: [(&str, &str, &str, Change<'_>); 13] = [
        ("file", "fault", "there is no such file", &|sandbox| {
            fs::remove_file(sandbox.database()).unwrap();
        }),
        ("file", "fault", "it is an empty database", &|sandbox| {
            sandbox.write("sessile.db", "");
        }),
        ("file", "fault", "it is not a SQLite database", &|sandbox| {
            sandbox.write("sessile.db", &"x".repeat(9000));
        }),
        ("file", "fault", "another program", &|sandbox| {
            sql(sandbox, "PRAGMA application_id = 7")
        }),
        ("file", "fault", "its format is 1", &|sandbox| {
            fs::remove_file(sandbox.database()).unwrap();
            of_format_1(sandbox);
        }),
        ("file", "fault", "its journal mode is", &|sandbox| {
            sql(sandbox, "PRAGMA journal_mode = DELETE")
        }),
        (
            "file",
            "fault",
            "its session is not that of schema.sql",
            &|sandbox| {
                sql(sandbox, "ALTER TABLE session ADD COLUMN x TEXT");
            },
        ),
        ("integrity", "fault", "it is damaged", &|sandbox| {
            insert(&sandbox.sqlite(), 1..=1000);
            damage(&sandbox.database());
        }),
        (
            "permissions",
            "warning",
            "is open to everybody",
            &|sandbox| {
                chmod(&sandbox.database(), 0o664);
            },
        ),
        (
            "permissions",
            "warning",
            "everybody may replace the file",
            &|sandbox| {
                chmod(&sandbox.database(), 0o660);
                chmod(&sandbox.path(""), 0o2777);
            },
        ),
        (
            "permissions",
            "warning",
            "may be closed to others",
            &|sandbox| {
                chmod(&sandbox.database(), 0o660);
                chmod(&sandbox.path(""), 0o770);
            },
        ),
        (
            "permissions",
            "warning",
            "in a folder that a group shares",
            &|sandbox| {
                chmod(&sandbox.database(), 0o640);
                chmod(&sandbox.path(""), 0o2770);
            },
        ),
        ("permissions", "fault", "sessile.db-shm is", &|sandbox| {
            chmod(&sandbox.database(), 0o660);
            chmod(&sandbox.write("sessile.db-shm", ""), 0o640);
        }),
    ];
    let has_sqlite3 = Command::new("sqlite3").arg("--version").output().is_ok();
    for (name, status, sentence, change) in cases {
        let sandbox = healthy();
        sandbox.run(&["backup", "good.db"]).ok();
        // A writer takes along what readers leave beside the file.
        drop(sandbox.sqlite());
        assert_eq!(trouble(&doctor(&sandbox, &["--json"]), name), []);
        change(&sandbox);
        let found = trouble(&doctor(&sandbox, &["--json"]), name);
        let [(found_status, found, mend)] = found.as_slice() else {
            panic!("{sentence}: {found:?}");
        };
        assert!(
            found_status == status && found.contains(sentence),
            "{status} {sentence}: {found}"
        );
        if mend.starts_with("sqlite3 ") && !has_sqlite3 {
            skipped("there is no stock sqlite3 to follow an advice with");
            continue;
        }
        follow(&sandbox, &mend.replace("BACKUP", "good.db"));
        assert_eq!(
            trouble(&doctor(&sandbox, &["--json"]), name),
            [],
            "after {mend}"
        );
    }
}

#[test]
fn an_address_in_use_is_told_by_who_uses_it() {
    let sandbox = healthy();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let socket = sandbox.path("taken.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    drop(UnixListener::bind(sandbox.path("stale.sock")).unwrap());
    sandbox.write("file.sock", "");
    let unix = |name: &str| format!("\"unix:{}\"", sandbox.path(name).display());
    let names = [
        "stale.sock",
        "new.sock",
        "taken.sock",
        "file.sock",
        "no/folder.sock",
    ];
    let listen: Vec<String> = names.map(unix).to_vec();
    let toml = fs::read_to_string(sandbox.path("sessile.toml"))
        .unwrap()
        .replace(
            "\"127.0.0.1:0\"",
            &format!("[\"{address}\", \"192.0.2.1:80\", {}]", listen.join(", ")),
        );
    sandbox.write(
        "sessile.toml",
        &format!("server.allow_plain = true\n{toml}"),
    );
    // A program that takes connections and says nothing is given up on; this one hangs up.
    let (ended, _) = std::thread::scope(|scope| {
        let hangs_up = scope.spawn(|| drop(taken.accept().unwrap()));
        (doctor(&sandbox, &["--json"]), hangs_up.join())
    });
    let found: Vec<String> = trouble(&ended, "address")
        .into_iter()
        .map(|(_, found, _)| found)
        .collect();
    let [tcp, not_here, taken, no_socket, no_folder] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(*tcp, format!("another program listens at {address}"));
    assert!(not_here.starts_with("192.0.2.1:80: "), "{not_here}");
    assert!(
        taken.starts_with("another program listens at unix:"),
        "{taken}"
    );
    assert!(
        no_socket.contains("a file that is no socket"),
        "{no_socket}"
    );
    assert!(no_folder.contains("No such file"), "{no_folder}");
    assert!(
        sandbox.path("stale.sock").exists(),
        "what serve would replace is left to it"
    );
    assert!(!sandbox.path("new.sock").exists());
}

#[test]
fn keys_are_weighed() {
    let sandbox = healthy();
    fs::write(sandbox.path("secret"), "abababababababababababababababab\n").unwrap();
    let now = sessile::time::Timestamp::now();
    let soon = now.saturating_add(sessile::time::Span::from_days(20));
    let digest = |text: &str| sessile::api::auth::Digest::of(text.as_bytes());
    let (old, new) = (digest("old"), digest("new"));
    configure(
        &sandbox,
        &format!(
            "[[auth.keys]]\nname = \"old\"\nsha256 = \"{old}\"\nnot_after = 2020-01-01T00:00:00Z\n\
             [[auth.keys]]\nname = \"soon\"\nsha256 = \"{new}\"\nnot_after = {soon}\n\
             [[auth.keys]]\nname = \"clear\"\nkey = \"{KEY}\"\n\
             [[auth.keys]]\nname = \"word\"\nkey_file = \"secret\"\n"
        ),
    );
    for file in ["secret", "sessile.toml"] {
        fs::set_permissions(sandbox.path(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let found = trouble(&doctor(&sandbox, &["--json"]), "keys");
    let found: Vec<String> = found
        .into_iter()
        .map(|(status, found, mend)| format!("{status}: {found} → {mend}"))
        .collect();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"soon expires at \S+", "soon expires at [instant]");
    settings.bind(|| insta::assert_snapshot!(found.join("\n")));

    sandbox.write("sessile.toml", "");
    let none = trouble(&doctor(&sandbox, &["--json"]), "keys");
    assert_eq!(none[0].1, "no API key is configured");
}

#[test]
fn the_rest_is_found_too() {
    let sandbox = healthy();
    let writer = sandbox.sqlite();
    let unfinished = "INSERT INTO sessile_import VALUES ('/data/my sessions.ndjson', 0, 7, '')";
    writer.execute_batch(unfinished).unwrap();
    let ahead = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                 VALUES ('t', 's', 'u', 9000000000000, 9000000000000)";
    writer.execute_batch(ahead).unwrap();
    drop(writer);
    let wal = File::create(sandbox.path("sessile.db-wal")).unwrap();
    wal.set_len(70_000_000).unwrap();
    fs::create_dir(sandbox.path("bin")).unwrap();
    let old = sandbox.write("bin/sqlite3", "#!/bin/sh\necho 3.40.1 2022-12-28\n");
    fs::set_permissions(old, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sandbox.command(&["doctor", "--json", "--config", "sessile.toml"]);
    command
        .env("PATH", sandbox.path("bin"))
        .env("SESSILE_MODE", "development");
    let ended = Ended::from(command.output().unwrap());
    for (name, sentence) in [
        (
            "import",
            "an import of /data/my sessions.ndjson that began at 1970-01-01T00:00:00.000Z has taken 7 sessions",
        ),
        (
            "clock",
            "the newest event in the file is of 2255-03-14T16:00:00.000Z",
        ),
        ("sqlite3", "is 3.40.1; before 3.51.3"),
        ("mode", "development"),
        ("wal", "70.0 MB: a reader of long"),
    ] {
        let found = trouble(&ended, name);
        assert_eq!(found.len(), 1, "{name}: {ended:?}");
        assert!(
            found[0].0 == "warning" && found[0].1.contains(sentence),
            "{found:?}"
        );
    }
    assert_eq!(
        trouble(&ended, "import")[0].2,
        "sessile import --resume --database sessile.db '/data/my sessions.ndjson'"
    );
    ended.ok();
}

#[test]
fn a_folder_in_memory_is_told() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return skipped("there is no /dev/shm here");
    };
    let sandbox = healthy();
    let database = folder.path().join("x.db").display().to_string();
    sandbox.run(&["init", "--database", &database]).ok();
    let found = trouble(
        &doctor(&sandbox, &["--json", "--database", &database]),
        "file system",
    );
    assert!(found[0].1.starts_with("tmpfs: "), "{found:?}");
    let missing = format!("{database}/no/such/folder");
    let found = trouble(
        &doctor(&sandbox, &["--json", "--database", &missing]),
        "folder",
    );
    assert_eq!(found.len(), 1);
}

#[test]
fn faults_of_the_configuration_are_findings() {
    let sandbox = healthy();
    sandbox.write("sessile.toml", "mode = \"test\"\nlog.level = 7\n");
    let ended = doctor(&sandbox, &["--json"]);
    assert_eq!(trouble(&ended, "configuration").len(), 2);
    assert!(trouble(&ended, "file")[0].1.contains("not looked at"));
    // The file that a flag names is looked at all the same.
    let named = doctor(&sandbox, &["--json", "--database", "sessile.db"]);
    assert_eq!(trouble(&named, "file"), []);
    assert_eq!(trouble(&named, "configuration").len(), 2);
}
