//! The rows to count: ten sessions a user, three of them live, as a login system might leave them.

use std::path::Path;

use rusqlite::Connection;
use sessile::store::writer::create;

pub(crate) const SESSIONS_A_USER: u64 = 10;

/// The one tenant of the load.
pub(crate) const TENANT: &str = "tnt_bench";

/// Makes the file at `path` with `rows` rows: users `usr_00000000` and so on.
pub(crate) fn fill(path: &Path, rows: u64) {
    create(path).unwrap();
    let connection = Connection::open(path).unwrap();
    let fill = format!(
        "PRAGMA synchronous = OFF;
         PRAGMA cache_size = -500000;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows}),
              clock(now) AS (SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
         INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
         SELECT '{TENANT}', printf('sess_%016d', i), printf('usr_%08d', i / {SESSIONS_A_USER}), now - 5 * 86400000,
                CASE WHEN i % {SESSIONS_A_USER} < 3 THEN now + 30 * 86400000 ELSE now - 86400000 END
         FROM n, clock;
         PRAGMA wal_checkpoint(TRUNCATE);"
    );
    connection.execute_batch(&fill).unwrap();
}
