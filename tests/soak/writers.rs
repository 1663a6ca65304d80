//! Those who write the file: processes that run plain SQL, as the programs of others do, and that are killed in the
//! middle of it.
//!
//! Each writes what its thread here tells it to, so that the model knows of a commit before it happens. Of one that
//! was killed the file itself tells whether its last transaction is in it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rand::random_range;
use rusqlite::Connection;

use crate::clock::{now, wall};
use crate::model::State;
use crate::shared::{Shared, count, name, once_in, tenant};

/// The expiry of sessions that outlive the soak: 2286-11-20.
pub(crate) const LASTING: i64 = 9_999_999_999_999;

/// How long writers wait for one another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The writers, each with its process where one runs.
pub(crate) struct Writers(Vec<Mutex<Option<Writer>>>);

impl Writers {
    pub(crate) fn new(number: usize) -> Self {
        Self((0..number).map(|_| Mutex::new(None)).collect())
    }

    /// Kills all of them; new ones come when there is something to write.
    pub(crate) fn kill(&self, shared: &Shared) {
        for writer in &self.0 {
            if writer.lock().unwrap().take().is_some() {
                count(&shared.counts.writers_killed);
            }
        }
    }
}

/// A process that writes; killed when dropped.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Writer {
    fn start(database: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("writer")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn send(&mut self, sql: &str) {
        writeln!(self.stdin, "{sql}").unwrap();
    }

    /// When the commit was done, by the writer's own clock.
    fn receive(&mut self) -> Result<u64, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        match line.trim_end().strip_prefix("done ") {
            Some(at) => Ok(at.parse().unwrap()),
            None => Err(line),
        }
    }
}

/// The process of a writer: a transaction a line.
pub(crate) fn run(database: &Path) {
    let connection = connect(database);
    for line in std::io::stdin().lines() {
        match connection.execute_batch(&line.unwrap()) {
            Ok(()) => println!("done {}", now()),
            Err(error) => println!("{error}"),
        }
    }
}

pub(crate) fn connect(database: &Path) -> Connection {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(BUSY_TIMEOUT).unwrap();
    connection
}

/// The table in which each writer numbers its transactions. Other tables in the file are its owners' business.
pub(crate) fn prepare(database: &Path) {
    let sql = "CREATE TABLE soak (writer INTEGER PRIMARY KEY, step INTEGER NOT NULL) STRICT";
    connect(database).execute_batch(sql).unwrap();
}

/// The last step of a writer that is in the file.
pub(crate) fn step_in_file(database: &Path, writer: usize) -> Option<i64> {
    let sql = "SELECT max(step) FROM soak WHERE writer = ?1";
    connect(database)
        .query_row(sql, [writer as i64], |row| row.get(0))
        .unwrap()
}

/// SQL that notes a step of a writer.
pub(crate) fn note_step(writer: usize, step: i64) -> String {
    format!(
        "INSERT INTO soak VALUES ({writer}, {step}) ON CONFLICT (writer) DO UPDATE SET step = excluded.step;"
    )
}

/// The thread of a writer, whose users are its alone: changes them until the end.
pub(crate) fn drive(
    shared: &Shared,
    writers: &Writers,
    number: usize,
    users: Range<usize>,
    pause: Duration,
) {
    let mut step = 0;
    while !shared.is_over() {
        {
            let _file = shared.file.read().unwrap();
            let mut place = writers.0[number].lock().unwrap();
            let writer = place.get_or_insert_with(|| Writer::start(&shared.database));
            step += 1;
            let first = random_range(users.clone());
            // One commit in ten is of several users at once.
            let changed = if once_in(10) {
                first..users.end.min(first + 3)
            } else {
                first..first + 1
            };
            let mut sql = format!("BEGIN IMMEDIATE; {}", note_step(number, step));
            for user in changed.clone() {
                let state = change(shared.model.state(user), user, &mut sql);
                shared.model.begin(user, state);
            }
            sql.push_str("COMMIT");
            writer.send(&sql);
            let outcome = if once_in(100) {
                std::thread::sleep(Duration::from_micros(random_range(0..2_000)));
                *place = None;
                count(&shared.counts.writers_killed);
                if step_in_file(&shared.database, number) == Some(step) {
                    Ok(now())
                } else {
                    Err(None)
                }
            } else {
                writer.receive().map_err(Some)
            };
            for user in changed {
                match outcome {
                    Ok(at) => shared.model.done(user, at),
                    Err(_) => shared.model.undo(user),
                }
            }
            match outcome {
                Ok(_) => count(&shared.counts.commits),
                Err(None) => {}
                Err(Some(error)) => {
                    *place = None;
                    shared.fault(format!("a writer could not write: {error}"));
                }
            }
        }
        shared.sleep(pause.mul_f64(random_range(0.0..2.0)));
    }
}

/// Changes a user in one of the ways that sessions change; returns what is true after it.
fn change(mut state: State, user: usize, sql: &mut String) -> State {
    let (tenant, name, wall) = (tenant(user), name(user), wall());
    let which = format!("tenant_id = '{tenant}' AND user_id = '{name}'");
    state.expiries.retain(|expiry| wall <= *expiry);
    let mut insert = |sessions: u64, expiry: i64| {
        // As many as there are, it is one transaction that can be killed in its middle.
        write!(
            sql,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {sessions})
             INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
             SELECT '{tenant}', hex(randomblob(12)), '{name}', 0, {expiry} FROM n;"
        )
        .unwrap();
    };
    match random_range(0..12) {
        0..=3 if state.lasting < 50 => {
            insert(1, LASTING);
            state.lasting += 1;
        }
        4 => {
            insert(300, LASTING);
            state.lasting += 300;
        }
        5 => {
            let expiry = wall + random_range(1..3_000);
            insert(2, expiry);
            state.expiries.extend([expiry; 2]);
        }
        6 | 7 if state.lasting > 0 => {
            write!(
                sql,
                "UPDATE session SET revoked_at = {wall} WHERE rowid = (SELECT rowid FROM session
                 WHERE {which} AND revoked_at IS NULL AND expires_at = {LASTING} LIMIT 1);"
            )
            .unwrap();
            state.lasting -= 1;
        }
        8 => {
            write!(
                sql,
                "UPDATE session SET last_active_at = {wall} WHERE {which};"
            )
            .unwrap();
        }
        9 => {
            write!(sql, "DELETE FROM session WHERE {which};").unwrap();
            state = State::default();
        }
        _ => {
            write!(sql, "UPDATE session SET revoked_at = {wall}, revoke_reason = 'logout' WHERE {which} AND revoked_at IS NULL;").unwrap();
            state = State::default();
        }
    }
    // The process takes a line at a time.
    *sql = sql.replace('\n', " ");
    state
}
