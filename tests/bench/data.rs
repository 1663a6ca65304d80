//! The rows to count: ten sessions a user, three of them live, as a login system might leave them.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sessile::store::writer::create;

pub(crate) const SESSIONS_A_USER: u64 = 10;

/// The one tenant of the load.
pub(crate) const TENANT: &str = "tnt_bench";

/// Users `odd_0` and so on, of whom each has as many live sessions as its number says, and others that ended in
/// each way.
pub(crate) const ODD_USERS: u64 = 20;

/// The file with `rows` rows in `folder`: the one that an earlier run has left there, else a new one.
pub(crate) fn file(folder: &Path, rows: u64) -> PathBuf {
    let path = folder.join(format!("bench-{rows}.db"));
    if !path.exists() {
        crate::say(&format!("filling a file with {rows} rows"));
        let unfinished = path.with_extension("unfinished");
        let _ = std::fs::remove_file(&unfinished);
        fill(&unfinished, rows);
        std::fs::rename(&unfinished, &path).unwrap();
    }
    path
}

/// Makes the file at `path` with `rows` rows, users `usr_00000000` and so on, and with the few of [`ODD_USERS`].
pub(crate) fn fill(path: &Path, rows: u64) {
    create(path).unwrap();
    let connection = Connection::open(path).unwrap();
    let fill = format!(
        "PRAGMA journal_mode = OFF; -- or every page is written twice
         PRAGMA synchronous = OFF;
         PRAGMA cache_size = -500000;
         CREATE TEMP TABLE clock AS
             SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) AS now, 86400000 AS day;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
         SELECT '{TENANT}', printf('sess_%016d', i), printf('usr_%08d', i / {SESSIONS_A_USER}), now - 5 * day,
                CASE WHEN i % {SESSIONS_A_USER} < 3 THEN now + 30 * day ELSE now - day END
         FROM n, clock;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {ODD_USERS}),
              k(j) AS (SELECT 1 UNION ALL SELECT j + 1 FROM k WHERE j < {ODD_USERS} + 3)
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, idle_expires_at, revoked_at)
         SELECT CASE j - i WHEN 4 THEN 'tnt_other' ELSE '{TENANT}' END, 'odd ' || i || ' ' || j, 'odd_' || i, now - 5 * day,
                now + CASE j - i WHEN 1 THEN -day ELSE 30 * day END,
                CASE WHEN j - i = 2 THEN now - day WHEN j % 2 = 0 THEN now + 30 * day END,
                CASE j - i WHEN 3 THEN now - day END
         FROM n, k, clock WHERE j <= i + 4;
         PRAGMA journal_mode = WAL;"
    );
    connection.execute_batch(&fill).unwrap();
}
