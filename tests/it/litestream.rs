//! Litestream at work on the file: its checkpoints, the server's snapshots and the commands' own checkpoints do each
//! other no harm. Whatever was committed is in its replica, and the WAL stays short.
//!
//! It takes Litestream 0.3: `$LITESTREAM`, or `litestream` on the PATH.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::callers::Stop;
use crate::import_stopped::signal;
use crate::support::{KEY, Sandbox, Server, question, skipped, wait_until};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

/// From so many pages in the WAL on Litestream has writers wait for its checkpoint; 10,000 if it is not told.
const PAGES: u64 = 2_000;

/// What the WAL may come to, in bytes: five times that, for what is committed before Litestream looks, which it does every
/// tenth of a second, if a busy machine lets it. All that is committed is 100 MB and more.
const LONGEST: u64 = 5 * PAGES * 4_120;

/// Litestream, replicating a sandbox's file into its folder `replica`.
struct Replicating<'s> {
    sandbox: &'s Sandbox,
    program: PathBuf,
    child: Child,
}

impl<'s> Replicating<'s> {
    /// `None`, with a printed reason, where there is no Litestream.
    fn start(sandbox: &'s Sandbox) -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("LITESTREAM").unwrap_or("litestream".into()));
        if let Err(error) = Command::new(&program).arg("version").output() {
            skipped(&format!("litestream can't be run here: {error}"));
            return None;
        }
        let (database, replica) = (sandbox.database(), sandbox.path("replica"));
        sandbox.write(
            "litestream.yml",
            &format!(
                "dbs:\n- path: {}\n  monitor-interval: 100ms\n  max-checkpoint-page-count: {PAGES}\n  \
                 replicas:\n  - type: file\n    path: {}\n    sync-interval: 100ms\n",
                database.display(),
                replica.display(),
            ),
        );
        let log = File::options()
            .create(true)
            .append(true)
            .open(sandbox.path("litestream.log"))
            .unwrap();
        let mut command = Command::new(&program);
        command.args(["replicate", "-config"]);
        command.arg(sandbox.path("litestream.yml"));
        let child = command.stdout(log).spawn().unwrap();
        wait_until("it replicates", || replica.exists());
        Some(Self {
            sandbox,
            program,
            child,
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.sandbox.path("litestream.log")).unwrap()
    }

    /// How many times it could not go on where it was.
    fn generations(&self) -> usize {
        self.log().matches("new generation").count()
    }

    /// Waits until the replica has all that the file has.
    fn catches_up(&self) {
        let export = self.sandbox.run(&["export"]).ok();
        wait_until("the replica has all", || self.replicated() == export);
    }

    /// How it ends says nothing: where a checkpoint is due, it gives that up, and calls it a failure.
    fn stop(&mut self) {
        signal(&self.child, "-TERM");
        self.child.wait().unwrap();
    }

    /// What the replica has, as an export.
    fn replicated(&self) -> String {
        let restored = self.sandbox.path("restored.db");
        for companion in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.sandbox.path(&format!("restored.db{companion}")));
        }
        let output = Command::new(&self.program)
            .args(["restore", "-config"])
            .arg(self.sandbox.path("litestream.yml"))
            .arg("-o")
            .arg(&restored)
            .arg(self.sandbox.database())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let sound =
            Connection::open(&restored)
                .unwrap()
                .query_row("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(sound, Ok("ok".to_owned()));
        self.sandbox
            .run(&["export", "--database", "restored.db"])
            .ok()
    }
}

impl Drop for Replicating<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How far a login system is: every commit adds a session of the user `u`.
#[derive(Default)]
struct Progress {
    begun: AtomicU64,
    done: AtomicU64,
    longest_wal: AtomicU64,
    is_over: AtomicBool,
}

/// Commits as fast as it may, up to 800 a second, and looks at the WAL.
fn log_in(sandbox: &Sandbox, progress: &Progress) {
    let connection = sandbox.sqlite();
    let began = Instant::now();
    for number in 1.. {
        if progress.is_over.load(Ordering::Relaxed) {
            return;
        }
        progress.begun.store(number, Ordering::SeqCst);
        let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                   VALUES ('t', ?1, 'u', 0, 9999999999999)";
        let mut insert = connection.prepare_cached(sql).unwrap();
        insert.execute([number.to_string()]).unwrap();
        progress.done.store(number, Ordering::SeqCst);
        let wal = fs::metadata(sandbox.path("sessile.db-wal")).map_or(0, |wal| wal.len());
        progress.longest_wal.fetch_max(wal, Ordering::Relaxed);
        let due = began + Duration::from_micros(1_250) * u32::try_from(number).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Asks all the time: what was committed before is in the answer, and what was not begun after it is not.
fn ask(server: &Server, progress: &Progress) -> u64 {
    let mut connection = server.connect();
    let mut answers = 0;
    while !progress.is_over.load(Ordering::Relaxed) {
        let before = progress.done.load(Ordering::SeqCst);
        let response = connection.ask(&question("u", &FIELDS));
        let after = progress.begun.load(Ordering::SeqCst);
        assert_eq!(response.status, 200, "{response:?}");
        let count = response.json()["session_count"].as_u64().unwrap();
        assert!(
            (before..=after).contains(&count),
            "{before} <= {count} <= {after}"
        );
        answers += 1;
    }
    answers
}

#[test]
fn nothing_is_lost_beside_the_server_and_the_commands() {
    let sandbox = Sandbox::with_file();
    let Some(litestream) = Replicating::start(&sandbox) else {
        return;
    };
    let server = sandbox.serve(&[]);
    let progress = Progress::default();
    let (mut rounds, mut answers) = (0, 0);
    thread::scope(|scope| {
        let callers = [(); 3].map(|()| scope.spawn(|| ask(&server, &progress)));
        scope.spawn(|| log_in(&sandbox, &progress));
        let stop = Stop(&progress.is_over);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(8) {
            rounds += 1;
            let session = |user: &str, end: &str| {
                format!(
                    "{{\"tenant_id\":\"s\",\"id\":\"{user}{rounds}\",\"user_id\":\"{user}\",\"created_ago\":\"60d\",\"expires_in\":\"{end}\"}}\n"
                )
            };
            sandbox
                .import(&[session("a", "1h"), session("b", "1h"), session("c", "-40d")].concat());
            sandbox.run(&["heartbeat"]).ok();
            sandbox
                .run(&["revoke", "--tenant", "s", "--user", "a"])
                .ok();
            sandbox.run(&["backup", "--force", "backup.db"]).ok();
            let vacuum = if rounds % 2 == 0 { "always" } else { "never" };
            sandbox
                .run(&["purge", "--ended-before", "30d", "--vacuum", vacuum])
                .ok();
            // Whether Litestream lets it empty the WAL is a matter of luck.
            let deleted = sandbox.run(&["delete", "--tenant", "s", "--user", "b"]);
            assert!(matches!(deleted.code, Some(0 | 2)), "{deleted:?}");
        }
        drop(stop);
        answers = callers.map(|caller| caller.join().unwrap()).iter().sum();
    });
    litestream.catches_up();
    let (commits, wal) = (
        progress.done.load(Ordering::Relaxed),
        progress.longest_wal.load(Ordering::Relaxed),
    );
    let _ = writeln!(
        std::io::stderr(),
        "litestream: {commits} commits beside {rounds} rounds of commands, {answers} answers; \
         WAL of {:.1} MB at most; {} generations",
        wal as f64 / 1e6,
        litestream.generations(),
    );
    assert!(wal < LONGEST, "{wal} bytes");
}

/// A restore of a backup from before it came takes its tables away, if nobody minds them.
#[test]
fn it_goes_on_after_a_restore() {
    let sandbox = Sandbox::with_file();
    sandbox.run(&["backup", "backup.db"]).ok();
    let Some(litestream) = Replicating::start(&sandbox) else {
        return;
    };
    let commit = |count: u32| {
        let connection = sandbox.sqlite();
        for _ in 0..count {
            let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                       VALUES ('t', hex(randomblob(16)), 'u', 0, 9999999999999)";
            connection.execute(sql, []).unwrap();
        }
    };
    let seq = || sandbox.number("SELECT coalesce(max(seq), 0) FROM _litestream_seq");
    commit(10);
    sandbox.run(&["restore", "backup.db"]).ok();
    let before = seq();
    // Past its next checkpoint, after which it writes there.
    wait_until("it had a checkpoint", || {
        commit(50);
        seq() > before
    });
    commit(10);
    litestream.catches_up();
    assert!(
        !litestream.log().contains("no such table"),
        "{}",
        litestream.log()
    );
}

/// What `delete` advises works: once it is stopped nothing is left, and it goes on with a new generation.
#[test]
fn a_user_is_erased_while_it_is_stopped() {
    let sandbox = Sandbox::with_file();
    let Some(mut litestream) = Replicating::start(&sandbox) else {
        return;
    };
    sandbox.import(
        "{\"tenant_id\":\"t\",\"id\":\"1\",\"user_id\":\"erase.me\",\"expires_in\":\"1h\"}\n\
         {\"tenant_id\":\"t\",\"id\":\"2\",\"user_id\":\"stays\",\"expires_in\":\"1h\"}\n",
    );
    let delete = || sandbox.run(&["delete", "--tenant", "t", "--user", "erase.me"]);
    let said = delete().failed(2);
    assert!(
        said.contains("run the same command again while Litestream is stopped"),
        "{said}"
    );
    litestream.stop();
    delete().ok();
    for name in ["sessile.db", "sessile.db-wal"] {
        let bytes = fs::read(sandbox.path(name)).unwrap_or_default();
        let user = b"erase.me";
        assert!(
            !bytes.windows(user.len()).any(|found| found == user),
            "{name}"
        );
    }
    let generations = litestream.generations();
    drop(litestream);
    let litestream = Replicating::start(&sandbox).unwrap();
    wait_until("it has a new generation", || {
        litestream.generations() > generations
    });
    let export = sandbox.run(&["export"]).ok();
    assert!(
        export.contains("stays") && !export.contains("erase.me"),
        "{export}"
    );
    litestream.catches_up();
}
