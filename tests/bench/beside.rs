//! What happens beside the load: another process that commits, a caller who asks for a user with a million sessions,
//! and thousands of connections that say nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::data::TENANT;
use crate::process::KEY;

/// The user with many sessions.
const HEAVY: &str = "heavy";

/// Gives one user this many live sessions.
pub(crate) fn add_heavy_user(path: &Path, sessions: u64) {
    let fill = format!(
        "PRAGMA synchronous = OFF;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {sessions})
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
         SELECT '{TENANT}', 'heavy ' || i, '{HEAVY}', 0, 9999999999999 FROM n;
         PRAGMA wal_checkpoint(TRUNCATE);"
    );
    Connection::open(path)
        .unwrap()
        .execute_batch(&fill)
        .unwrap();
}

/// What went on beside the load.
#[derive(Default)]
pub(crate) struct Beside {
    /// Commits or answers.
    pub(crate) done: AtomicU64,
    /// The longest that the WAL was, in bytes.
    pub(crate) longest_wal: AtomicU64,
}

/// Runs `load` while a writer commits `rate` times a second, checkpoints as SQLite does by default, and a checker asks
/// after each commit: no answer may be older than it.
pub(crate) fn with_writer<T>(
    path: &Path,
    address: &str,
    rate: u64,
    beside: &Beside,
    load: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Connection::open(path).unwrap();
            writer.execute_batch("PRAGMA synchronous = OFF").unwrap();
            let wal = path.with_extension("db-wal");
            let mut checker = Caller::new(address);
            let mut count = checker.count("checked");
            let interval = Duration::from_secs_f64(1.0 / rate as f64);
            let mut due = Instant::now();
            while !done.load(Ordering::Relaxed) {
                let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                           VALUES (?1, 'checked ' || hex(randomblob(12)), 'checked', 0, 9999999999999)";
                writer.prepare_cached(sql).unwrap().execute([TENANT]).unwrap();
                count += 1;
                let commits = beside.done.fetch_add(1, Ordering::Relaxed);
                if commits.is_multiple_of(10) {
                    assert_eq!(checker.count("checked"), count, "an answer is older than its commit");
                }
                if count == 100 {
                    // The checked user's sessions end, so that a count of them stays short.
                    let sql = "UPDATE session SET revoked_at = 1 WHERE user_id = 'checked' AND revoked_at IS NULL AND tenant_id = ?1";
                    writer.prepare_cached(sql).unwrap().execute([TENANT]).unwrap();
                    count = 0;
                    assert_eq!(checker.count("checked"), 0, "an answer is older than its revocation");
                }
                let length = std::fs::metadata(&wal).map_or(0, |file| file.len());
                beside.longest_wal.fetch_max(length, Ordering::Relaxed);
                due += interval;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let loaded = load();
        done.store(true, Ordering::Relaxed);
        loaded
    })
}

/// Runs `load` while one caller asks for the heavy user in a loop.
pub(crate) fn with_heavy_caller<T>(address: &str, beside: &Beside, load: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut caller = Caller::new(address);
            while !done.load(Ordering::Relaxed) {
                assert!(caller.count(HEAVY) > 0);
                beside.done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let loaded = load();
        done.store(true, Ordering::Relaxed);
        loaded
    })
}

/// Opens connections that have asked once each, and then say nothing.
pub(crate) fn idle(address: &str, connections: usize) -> Vec<TcpStream> {
    (0..connections)
        .map(|_| {
            let mut caller = Caller::new(address);
            caller.count("nobody");
            caller.0
        })
        .collect()
}

struct Caller(TcpStream);

impl Caller {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn count(&mut self, user: &str) -> u64 {
        let request = format!(
            "GET /internal/session/sessions/{user}/active HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nX-Tenant-ID: {TENANT}\r\n\r\n"
        );
        self.0.write_all(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        let mut buffer = [0; 4096];
        while !response.ends_with(b"}") {
            let count = self.0.read(&mut buffer).unwrap();
            assert!(count > 0, "the server closed the connection");
            response.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8(response).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let (_, count) = text.rsplit_once(':').unwrap();
        count.trim_end_matches('}').parse().unwrap()
    }
}
