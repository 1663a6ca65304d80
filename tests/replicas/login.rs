//! The login system of the writer node: logins, logouts and revocations with plain SQL.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::random_range;
use rusqlite::Connection;

use crate::history::USERS;
use crate::shared::{Asked, Shared};

pub(crate) const TENANT: &str = "tnt_login";

/// The user that gets a session with each commit.
pub(crate) const TICK: &str = "tick";

pub(crate) fn name(user: usize) -> String {
    format!("usr/{user} é")
}

/// Commits at the rate of the options, until the node may have gone. All of its sessions outlive the test.
pub(crate) fn run(shared: &Shared, node: &Asked, database: &Path) {
    let history = &shared.history;
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection
        .execute_batch("PRAGMA synchronous = FULL")
        .unwrap();
    let began = Instant::now();
    for commits in 1.. {
        if shared.is_over() || node.may_be_gone() {
            return;
        }
        let user = random_range(0..USERS);
        let (change, sql) = match random_range(0..10) {
            0 => (Change::All, REVOKE),
            1..4 => (Change::One, LOGOUT),
            _ => (Change::More, LOGIN),
        };
        let number = history.begin(user, |count| match change {
            Change::All => 0,
            Change::One => count.saturating_sub(1),
            Change::More => count + 1,
        });
        commit(&connection, number, &name(user), sql).unwrap();
        history.done();
        let due = began + Duration::from_secs(1) * commits / shared.options.rate;
        sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// What becomes of a user's sessions.
enum Change {
    All,
    One,
    More,
}

const TICKS: &str = "\
INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
VALUES (?1, 'tick ' || ?2, ?3, 0, 9999999999999)";

const LOGIN: &str = "\
INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, amr, ip)
VALUES (?1, 'sess ' || ?2, ?3, 0, 9999999999999, 'password,totp', '192.0.2.1')";

const LOGOUT: &str = "\
UPDATE session SET revoked_at = ?2, revoke_reason = 'logout'
WHERE tenant_id = ?1 AND revoked_at IS NULL AND id =
    (SELECT id FROM session WHERE tenant_id = ?1 AND user_id = ?3 AND revoked_at IS NULL LIMIT 1)";

const REVOKE: &str = "\
UPDATE session SET revoked_at = ?2, revoke_reason = 'password changed'
WHERE tenant_id = ?1 AND user_id = ?3 AND revoked_at IS NULL";

fn commit(connection: &Connection, number: u64, user: &str, sql: &str) -> rusqlite::Result<()> {
    let number = number.cast_signed();
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection
        .prepare_cached(TICKS)?
        .execute((TENANT, number, TICK))?;
    connection
        .prepare_cached(sql)?
        .execute((TENANT, number, user))?;
    connection.execute_batch("COMMIT")
}
