//! `purge`: it changes no answer, holds nobody up, and gives the room back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sessile::session::{Leeway, Outlived, Policy, TenantId, UserId};
use sessile::store::{Options, Reader, Snapshot, Writer};
use sessile::time::{Span, Timestamp};

use crate::callers::{Stop, beside_callers};
use crate::support::{PATIENCE, Sandbox};
use crate::vectors::{imported, vectors};

fn purge(sandbox: &Sandbox, args: &[&str]) -> Value {
    let all = [&["purge", "--json"], args].concat();
    serde_json::from_str(&sandbox.run(&all).ok()).unwrap()
}

fn reader(sandbox: &Sandbox) -> Reader {
    let options = Options {
        pool_size: 1,
        snapshot: Snapshot::Held,
    };
    Reader::open(&sandbox.database(), options).unwrap()
}

/// The rules to count under: without and with a policy, with the least and the largest leeway.
fn rules() -> [Policy; 4] {
    let policy = Policy {
        max_age: Some(Span::from_hours(12)),
        idle_timeout: Some(Span::from_minutes(30)),
        ..Policy::default()
    };
    let lenient = |policy| Policy {
        leeway: Leeway::new(Leeway::MAX).unwrap(),
        ..policy
    };
    let none = Policy::default();
    [none, lenient(none), policy, lenient(policy)]
}

/// Every user, with the instants around which the count may change by a stored deadline.
fn users(sandbox: &Sandbox) -> BTreeMap<(String, String), BTreeSet<i64>> {
    let connection = sandbox.sqlite();
    let sql = "SELECT tenant_id, user_id, expires_at, idle_expires_at, revoked_at FROM session";
    let mut select = connection.prepare(sql).unwrap();
    let mut rows = select.query([]).unwrap();
    let mut users: BTreeMap<_, BTreeSet<i64>> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let user = (row.get_unwrap(0), row.get_unwrap(1));
        for column in 2..5 {
            let at: Option<i64> = row.get_unwrap(column);
            let around = at.map(|at| [at - 1, at, at + 59_999, at + 60_000]);
            users
                .entry(user.clone())
                .or_default()
                .extend(around.into_iter().flatten());
        }
    }
    users
}

/// For every user of the vectors the counts before and after are the same, at every instant from then on.
#[test]
fn no_count_changes_by_a_purge() {
    let whole = imported("export.json", "");
    let mut users = users(&whole);
    for vector in vectors("expected.tsv") {
        users.entry((vector.tenant, vector.user)).or_default();
    }
    let before = reader(&whole);
    let noon = Timestamp::from_millis(1_795_435_200_000);
    let mut purged = BTreeSet::new();
    for (now, age) in [
        (noon, Span::ZERO),
        (noon, Span::from_days(30)),
        (noon.saturating_add(Span::from_minutes(31)), Span::ZERO),
        (
            noon.saturating_add(Span::from_days(20)),
            Span::from_days(10),
        ),
    ] {
        let part = Sandbox::new();
        fs::copy(whole.database(), part.database()).unwrap();
        let mut writer = Writer::open(&part.database()).unwrap();
        purged.insert(writer.purge(&Outlived::by(now, age)).unwrap().purged);
        let after = reader(&part);
        for ((tenant, user), instants) in &users {
            let instants = instants
                .range(now.as_millis()..)
                .copied()
                .chain([now.as_millis()]);
            let (tenant, user) = (TenantId::new(tenant).unwrap(), UserId::new(user).unwrap());
            for at in instants.map(Timestamp::from_millis) {
                for policy in rules() {
                    let cutoffs = policy.cutoffs(at);
                    let count =
                        |reader: &Reader| reader.count_blocking(&tenant, &user, &cutoffs).unwrap();
                    assert_eq!(
                        count(&after),
                        count(&before),
                        "{tenant} {user} at {at} under {policy:?}"
                    );
                }
            }
        }
    }
    assert!(purged.len() == 4 && purged.first() > Some(&0), "{purged:?}");
}

/// A session goes at the very millisecond at which it can't count any more under the largest leeway.
#[test]
fn the_last_millisecond_counts() {
    let sandbox = Sandbox::with_file();
    let now = 1_000_000_000_000i64;
    let day = Span::from_days(1);
    let mark = now - day.as_millis();
    let sql = format!(
        "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at, idle_expires_at, revoked_at) VALUES
         ('t', 'expired', 'u', 0, {mark} - 60000, NULL, NULL), ('t', 'expires', 'u', 0, {mark} - 59999, NULL, NULL),
         ('t', 'idled', 'u', 0, {now}, {mark} - 60000, NULL), ('t', 'idles', 'u', 0, {now}, {mark} - 59999, NULL),
         ('t', 'revoked', 'u', 0, {now}, NULL, {mark}), ('t', 'revoked later', 'u', 0, {now}, NULL, {mark} + 1)"
    );
    let connection = sandbox.sqlite();
    connection.execute_batch(&sql).unwrap();
    let outlived = Outlived::by(Timestamp::from_millis(now), day);
    let would = sessile::store::View::open(&sandbox.database())
        .unwrap()
        .purgeable(&outlived)
        .unwrap();
    let did = Writer::open(&sandbox.database())
        .unwrap()
        .purge(&outlived)
        .unwrap();
    assert_eq!((did.purged, did.kept, would), (3, 3, did));
    let left: String = connection
        .query_row(
            "SELECT group_concat(id, ', ' ORDER BY id) FROM session",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, "expires, idles, revoked later");
}

/// 3,000 sessions that ended two days ago, and two live ones of the user `u`.
fn filled() -> Sandbox {
    let sandbox = Sandbox::with_file();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000),
             clock(now) AS (SELECT CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
        INSERT INTO session (rowid, tenant_id, id, user_id, created_at, expires_at, user_agent)
        SELECT i * 1000003, 't', 'old ' || i, 'u', 0, now - 2 * 86400000, hex(zeroblob(100)) FROM n, clock;
        INSERT INTO session (rowid, tenant_id, id, user_id, created_at, expires_at)
        VALUES (-9223372036854775808, 't', 'first', 'u', 0, 4000000000000),
               (9223372036854775807, 't', 'last', 'u', 0, 4000000000000)";
    sandbox.sqlite().execute_batch(sql).unwrap();
    sandbox
}

fn size(sandbox: &Sandbox) -> u64 {
    let length = |name| fs::metadata(sandbox.path(name)).map_or(0, |file| file.len());
    length("sessile.db") + length("sessile.db-wal")
}

#[test]
fn a_dry_run_says_what_a_purge_then_does() {
    let sandbox = filled();
    let before = size(&sandbox);
    let dry = purge(&sandbox, &["--ended-before", "1d", "--dry-run"]);
    assert_eq!((&dry["purged"], &dry["kept"]), (&3_000.into(), &2.into()));
    assert_eq!(purge(&sandbox, &["--ended-before", "3d"])["purged"], 0);
    let told = sandbox
        .run(&["purge", "--ended-before", "1d", "--dry-run"])
        .ok();
    assert!(
        told.starts_with("would purge 3000 sessions that had ended by "),
        "{told}"
    );
    let wet = purge(&sandbox, &["--ended-before", "1d"]);
    assert_eq!(
        (&wet["purged"], &wet["kept"], &wet["vacuumed"]),
        (&3_000.into(), &2.into(), &true.into())
    );
    assert_eq!(wet["bytes_after"], size(&sandbox));
    assert!(
        size(&sandbox) * 4 < before,
        "{before} bytes became {}",
        size(&sandbox)
    );
    assert!(
        sandbox
            .run(&["check", "--tenant", "t", "u"])
            .ok()
            .contains("2 sessions")
    );
}

#[test]
fn the_room_can_be_left_to_new_sessions() {
    let sandbox = filled();
    let wet = purge(&sandbox, &["--ended-before", "1d", "--vacuum", "never"]);
    assert_eq!(
        (&wet["purged"], &wet["vacuumed"]),
        (&3_000.into(), &false.into())
    );
    assert!(
        wet["bytes_free"].as_u64() > wet["bytes_after"].as_u64().map(|bytes| bytes / 2),
        "{wet}"
    );
    // Nothing more to purge, but much room to give back.
    assert_eq!(purge(&sandbox, &["--ended-before", "1d"])["vacuumed"], true);
    assert_eq!(
        purge(&sandbox, &["--ended-before", "1d"])["vacuumed"],
        false
    );
}

#[test]
fn a_policy_purges_nothing() {
    let sandbox = filled();
    sandbox.write("sessile.toml", "[sessions.policy]\nmax_age = \"1ms\"");
    assert_eq!(purge(&sandbox, &["--ended-before", "0s"])["kept"], 2);
}

#[test]
fn the_future_is_not_purged() {
    let sandbox = filled();
    let then = ["--ended-before", "0s", "--at", "2999-01-01T00:00:00Z"];
    let error = sandbox.run(&[&["purge"], &then[..]].concat()).failed(2);
    assert!(
        error.contains("found --at 2999-01-01T00:00:00.000Z"),
        "{error}"
    );
    assert_eq!(
        purge(&sandbox, &[&then[..], &["--dry-run"]].concat())["purged"],
        3_002
    );
    for span in ["-1s", "1w", "", "30"] {
        sandbox.run(&["purge", "--ended-before", span]).failed(2);
    }
    assert_eq!(purge(&sandbox, &["--ended-before", "3d"])["kept"], 3_002);
}

/// Killed at any moment, it has told the audit exactly what it did, and the next one does the rest.
#[test]
fn a_purge_that_was_killed_is_told_truly_and_run_again() {
    let sandbox = filled();
    let mut child = sandbox
        .command(&["purge", "--ended-before", "1d"])
        .spawn()
        .unwrap();
    let told = "SELECT coalesce(max(sessions), 0) FROM sessile_audit WHERE command = 'purge'";
    let deadline = Instant::now() + PATIENCE;
    while sandbox.number(told) == 0 {
        assert!(Instant::now() < deadline, "nothing was purged");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (told, left) = (
        sandbox.number(told),
        sandbox.number("SELECT count(*) FROM session"),
    );
    assert_eq!(told + left, 3_002);
    assert_eq!(
        purge(&sandbox, &["--ended-before", "1d"])["purged"],
        left - 2
    );
}

/// Callers see one and the same count all the time, and another writer gets its turn, while everything else is purged
/// and the file is written anew.
#[test]
fn nobody_is_held_up() {
    let sandbox = filled();
    let server = sandbox.serve(&[]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let writer = sandbox.sqlite();
            writer.busy_timeout(Duration::from_secs(5)).unwrap();
            let mut rows = 0;
            while !done.load(Ordering::Relaxed) {
                let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
                           VALUES ('t', hex(randomblob(8)), 'another', 0, 4000000000000)";
                // With the largest rowid taken, SQLite looks for a free one at random.
                rows += writer.execute(sql, []).unwrap();
            }
            rows
        });
        // Even where a caller fails, so that the writer does not go on for ever.
        let stop = Stop(&done);
        beside_callers(
            &server,
            |last, count| last == 2 && count == 2,
            || {
                for _ in 0..3 {
                    let told = purge(&sandbox, &["--ended-before", "1d", "--vacuum", "always"]);
                    assert_eq!(told["vacuumed"], true);
                }
            },
        );
        drop(stop);
        let rows = writer.join().unwrap();
        assert!(rows > 20, "{rows}");
        let kept = purge(&sandbox, &["--ended-before", "1d"])["kept"].as_u64();
        assert_eq!(kept, Some(rows as u64 + 2));
    });
}
