//! `backup`: the file of one moment, whatever goes on meanwhile, and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection;

use crate::callers::{Stop, beside_callers};
use crate::support::{Sandbox, fixture};

/// Rows `numbers` of the user `u` in tenant `t`, which never expire.
pub fn insert(connection: &Connection, numbers: std::ops::RangeInclusive<u32>) {
    let sql = "
        WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, user_agent)
        SELECT 't', i, 'u', 0, 9999999999999, printf('%080d', i) FROM n";
    connection
        .execute(sql, (numbers.start(), numbers.end()))
        .unwrap();
}

/// The names in the sandbox's folder.
pub fn names(sandbox: &Sandbox) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(sandbox.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Puts one page of an index in the place of another, as a bad disk or a bad copy would: each page is whole, but
/// many of the counts would be wrong. Nobody may have the file open.
pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    // The first byte of a page that is a leaf of an index (https://www.sqlite.org/fileformat2.html, 1.6).
    let leaves: Vec<usize> = (4096..bytes.len())
        .step_by(4096)
        .filter(|page| bytes[*page] == 0x0A)
        .collect();
    let [.., one, other] = leaves.as_slice() else {
        panic!("too few leaves: {leaves:?}");
    };
    bytes.copy_within(*one..one + 4096, *other);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_copy_is_the_file_of_one_moment() {
    let sandbox = Sandbox::with_file();
    insert(&sandbox.sqlite(), 1..=5_000);
    let server = sandbox.serve(&[]);
    let done = AtomicBool::new(false);
    let mut copies = Vec::new();
    beside_callers(
        &server,
        |before, count| count >= before,
        || {
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let writer = sandbox.sqlite();
                    let mut commits = 0;
                    while !done.load(Ordering::Relaxed) {
                        // Two rows a commit: no copy has an odd number.
                        let next = 5_001 + 2 * commits;
                        insert(&writer, next..=next + 1);
                        commits += 1;
                    }
                    commits
                });
                let stop = Stop(&done);
                for number in 1..=5 {
                    let copy = format!("copy-{number}.db");
                    let json = sandbox.run(&["backup", "--json", &copy]).ok();
                    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
                    copies.push((copy, json["sessions"].as_u64().unwrap()));
                }
                drop(stop);
                let commits = u64::from(writer.join().unwrap());
                let [.., (_, last)] = copies.as_slice() else {
                    panic!("no copies");
                };
                assert!(
                    5_000 < *last && *last <= 5_000 + 2 * commits,
                    "{last}, {commits} commits"
                );
            });
        },
    );
    assert!(copies.is_sorted_by_key(|(_, sessions)| *sessions));
    let names = names(&sandbox);
    for (copy, sessions) in copies {
        assert_eq!(sessions % 2, 0, "{copy}");
        let path = sandbox.path(&copy);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(&fs::read(&path).unwrap()[18..20], [2, 2], "WAL mode");
        assert_eq!(
            names.iter().filter(|name| name.contains(&copy)).count(),
            1,
            "{names:?}"
        );
        let checked = sandbox.run(&["check", "--database", &copy, "--tenant", "t", "u"]);
        assert_eq!(checked.ok(), format!("active: {sessions} sessions\n"));
    }
    assert!(
        !names.iter().any(|name| name.starts_with(".sessile")),
        "{names:?}"
    );
}

#[test]
fn it_says_what_it_copied() {
    let sandbox = Sandbox::with_file();
    insert(&sandbox.sqlite(), 1..=3);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[instant]");
    settings.add_filter(r#"\d+ bytes|"bytes":\d+"#, "[bytes]");
    settings.bind(|| {
        insta::assert_snapshot!(
            [
                sandbox.run(&["backup", "copy.db"]).ok(),
                sandbox
                    .run(&["backup", "--force", "--json", "copy.db"])
                    .ok(),
            ]
            .concat()
        );
    });
}

#[test]
fn what_is_there_is_replaced_by_force_only() {
    let sandbox = Sandbox::with_file();
    let there = sandbox.write("there", "precious");
    let error = sandbox.run(&["backup", "there"]).failed(4);
    assert_eq!(
        error,
        "sessile: there: it exists already; --force replaces it\n"
    );
    assert_eq!(fs::read_to_string(&there).unwrap(), "precious");
    sandbox.run(&["backup", "--force", "there"]).ok();
    assert_eq!(&fs::read(&there).unwrap()[..15], b"SQLite format 3");

    fs::create_dir(sandbox.path("folder")).unwrap();
    sandbox.run(&["backup", "--force", "folder"]).failed(4);
    let error = sandbox.run(&["backup", "no/such/folder/x.db"]).failed(4);
    assert!(
        error.starts_with("sessile: no/such/folder/x.db: "),
        "{error}"
    );
}

#[test]
fn the_live_file_is_never_the_copy() {
    let sandbox = Sandbox::with_file();
    let open = sandbox.sqlite();
    insert(&open, 1..=3);
    symlink("sessile.db", sandbox.path("link")).unwrap();
    fs::hard_link(sandbox.database(), sandbox.path("hard")).unwrap();
    let folder = sandbox.path("").display().to_string();
    for copy in [
        "sessile.db",
        "link",
        "hard",
        "sessile.db-wal",
        "sessile.db-shm",
        "sessile.db-journal",
    ] {
        for copy in [copy.to_owned(), format!("{folder}/./{copy}")] {
            let error = sandbox.run(&["backup", "--force", &copy]).failed(4);
            assert!(error.contains("it is the data file itself"), "{error}");
        }
    }
    assert_eq!(
        open.query_row("SELECT count(*) FROM session", [], |row| row.get(0)),
        Ok(3)
    );
}

/// SQLite would take what is in a stale WAL for the newest commits of the copy.
#[test]
fn a_copy_is_put_beside_no_wal() {
    let sandbox = Sandbox::with_file();
    for companion in ["copy.db-wal", "copy.db-journal"] {
        let stale = sandbox.write(companion, "stale");
        let error = sandbox.run(&["backup", "--force", "copy.db"]).failed(4);
        assert!(error.contains(companion), "{error}");
        fs::remove_file(stale).unwrap();
    }
    sandbox.run(&["backup", "copy.db"]).ok();
}

#[test]
fn a_bad_source_is_refused_and_leaves_nothing() {
    type Change<'c> = &'c dyn Fn(&Path);
    let sql = |path: &Path, sql: &str| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    let changes: [(&str, Change<'_>); 6] = [
        ("there is no such file", &|path| {
            fs::remove_file(path).unwrap()
        }),
        ("it is damaged: ", &damage),
        ("it is not a SQLite database", &|path| {
            fs::write(path, [b'x'; 9000]).unwrap()
        }),
        ("another program", &|path| {
            sql(path, "PRAGMA application_id = 7")
        }),
        ("its session is not that of schema.sql", &|path| {
            sql(path, "ALTER TABLE session ADD COLUMN x TEXT")
        }),
        ("its format is 3, which is newer", &|path| {
            sql(path, "PRAGMA user_version = 3")
        }),
    ];
    for (sentence, change) in changes {
        let sandbox = Sandbox::with_file();
        insert(&sandbox.sqlite(), 1..=1000);
        change(&sandbox.database());
        let error = sandbox.run(&["backup", "copy.db"]).failed(4);
        assert!(
            error.starts_with("sessile: sessile.db: ") && error.contains(sentence),
            "{error}"
        );
        let left: Vec<String> = names(&sandbox)
            .into_iter()
            .filter(|name| !name.starts_with("sessile."))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A file of format 1, as the last program of that format made it, with a session in it.
pub fn of_format_1(sandbox: &Sandbox) -> PathBuf {
    let connection = sandbox.sqlite();
    connection
        .execute_batch(&fs::read_to_string(fixture("schema-1.sql")).unwrap())
        .unwrap();
    insert(&connection, 1..=3);
    sandbox.database()
}
