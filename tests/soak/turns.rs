//! What is done to the file and to the server beside the load, one after the other: the commands, killed now and then,
//! and a file that takes the place of another.

use std::fs;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::random_range;

use crate::client::Client;
use crate::clock::{now, wall};
use crate::model::State;
use crate::shared::{Shared, count, name, once_in, tenant};
use crate::writers::{self, LASTING, Writers, connect, note_step};

/// Whether the server takes its keys anew at SIGHUP. One that doesn't would end by it.
pub(crate) const RELOADS: bool = true;

/// The number under which a backup is noted in the file, beside those of the writers.
const BACKUP: usize = 1_000;

pub(crate) struct Turns<'s> {
    pub(crate) shared: &'s Shared,
    pub(crate) writers: &'s Writers,
    /// The users that commands change, and no writer.
    pub(crate) users: Range<usize>,
    /// The process of the server, and its configuration.
    pub(crate) server: u32,
    pub(crate) config: &'s Path,
    pub(crate) pause: Duration,
    /// What is in the backup, and by which number it is known.
    pub(crate) backup: Option<(i64, Vec<State>)>,
    /// The number of the newest key.
    pub(crate) keys: u64,
}

impl Turns<'_> {
    /// Goes round until the end.
    pub(crate) fn run(&mut self) {
        let turns: [fn(&mut Self); 8] = [
            Self::import,
            Self::purge,
            Self::back_up,
            Self::revoke,
            Self::rename,
            Self::delete,
            Self::restore,
            Self::reload,
        ];
        for turn in turns.iter().cycle() {
            self.shared.sleep(self.pause);
            if self.shared.is_over() {
                return;
            }
            turn(self);
        }
    }

    fn import(&mut self) {
        let user = random_range(self.users.clone());
        let mut state = self.shared.model.state(user);
        let (tenant, name, at) = (tenant(user), name(user), now());
        let mut lines = String::new();
        for number in 0..50 {
            lines += &format!(
                "{{\"id\":\"{at}.{number}\",\"tenant_id\":\"{tenant}\",\"user_id\":\"{name}\",\"expires_at\":{LASTING},\"created_ago\":\"1h\"}}\n"
            );
        }
        state.lasting += 50;
        self.change(user, state, &["import", "-"], lines.as_bytes());
    }

    fn revoke(&mut self) {
        let user = random_range(self.users.clone());
        let args = ["revoke", "--tenant", tenant(user), "--user", &name(user)];
        self.change(user, State::default(), &args, b"");
    }

    fn delete(&mut self) {
        let user = random_range(self.users.clone());
        let args = ["delete", "--tenant", tenant(user), "--user", &name(user)];
        self.change(user, State::default(), &args, b"");
    }

    fn purge(&mut self) {
        // No answer changes by it.
        self.command(&["purge", "--ended-before", "2s"], b"", once_in(4));
    }

    /// Runs a command that changes one user.
    fn change(&mut self, user: usize, state: State, args: &[&str], input: &[u8]) {
        let model = &self.shared.model;
        let before = model.state(user);
        model.begin(user, state.clone());
        let is_done = match self.command(args, input, before != state && once_in(4)) {
            Some(is_done) => is_done,
            None => self.live(user) == state.lasting,
        };
        if is_done {
            model.done(user, now());
        } else {
            model.undo(user);
        }
    }

    /// The live sessions of a user that has no short ones.
    fn live(&self, user: usize) -> u64 {
        let sql = "SELECT count(*) FROM session WHERE tenant_id = ?1 AND user_id = ?2 AND revoked_at IS NULL";
        let live: i64 = connect(&self.shared.database)
            .query_row(sql, (tenant(user), name(user)), |row| row.get(0))
            .unwrap();
        live.try_into().unwrap()
    }

    /// Runs a command of the program; whether it did what it was asked for, `None` where it was killed meanwhile.
    fn command(&self, args: &[&str], input: &[u8], kill: bool) -> Option<bool> {
        count(&self.shared.counts.commands);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessile"))
            .args(args)
            .args(["--config", "/dev/null", "--database"])
            .arg(&self.shared.database)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed at once where the command is killed or refuses it.
        let _ = child.stdin.take().unwrap().write_all(input);
        if kill {
            std::thread::sleep(Duration::from_micros(random_range(0..60_000)));
            let _ = child.kill();
            let _ = child.wait();
            count(&self.shared.counts.commands_killed);
            return None;
        }
        let output = child.wait_with_output().unwrap();
        if !output.status.success() {
            self.shared.fault(format!(
                "{args:?} failed: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Some(output.status.success())
    }

    fn copy(&self) -> String {
        self.shared
            .database
            .with_extension("backup")
            .display()
            .to_string()
    }

    fn back_up(&mut self) {
        let shared = self.shared;
        let _file = shared.file.write().unwrap();
        let number = now().cast_signed();
        let note = |number| {
            connect(&shared.database)
                .execute_batch(&note_step(BACKUP, number))
                .unwrap()
        };
        note(number);
        let states = (0..shared.model.users()).map(|user| shared.model.state(user));
        let states: Vec<State> = states.collect();
        if self.command(&["backup", "--force", &self.copy()], b"", false) == Some(true) {
            self.backup = Some((number, states));
        }
        // Whether a restore that is killed has happened, this number tells.
        note(number + 1);
    }

    /// Puts a backup's contents into the live file. No answer may fail meanwhile.
    fn restore(&mut self) {
        let Some((number, states)) = self.backup.take() else {
            return;
        };
        let shared = self.shared;
        let _file = shared.file.write().unwrap();
        for (user, state) in states.iter().enumerate() {
            shared.model.begin(user, state.clone());
        }
        let is_done = self
            .command(&["restore", &self.copy()], b"", once_in(3))
            .unwrap_or_else(|| writers::step_in_file(&shared.database, BACKUP) == Some(number));
        let at = now();
        for user in 0..states.len() {
            if is_done {
                shared.model.done(user, at);
            } else {
                shared.model.undo(user);
            }
        }
        if is_done {
            count(&shared.counts.restores);
        }
    }

    /// Puts another file in the place of the live one: what nobody should do, and somebody will.
    ///
    /// All of what was committed is in the file itself before, and no writer has it open, as with an operator who has
    /// stopped the login system; its -wal and -shm go with it.
    fn rename(&mut self) {
        let shared = self.shared;
        let _file = shared.file.write().unwrap();
        self.writers.kill(shared);
        let new = shared.database.with_extension("new");
        let companion = |suffix: &str| {
            let mut path = shared.database.clone().into_os_string();
            path.push(suffix);
            path
        };
        let live = connect(&shared.database);
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        while live
            .query_row(checkpoint, [], |row| row.get::<_, bool>(0))
            .unwrap()
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        live.execute("VACUUM INTO ?1", [new.to_str().unwrap()])
            .unwrap();
        drop(live);
        let connection = connect(&new);
        connection
            .execute_batch("PRAGMA journal_mode = WAL; BEGIN")
            .unwrap();
        for user in 0..shared.model.users() {
            let sql = "INSERT INTO session (tenant_id, id, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, 0, ?4)";
            connection
                .execute(
                    sql,
                    (
                        tenant(user),
                        format!("{} {user}", now()),
                        name(user),
                        LASTING,
                    ),
                )
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        drop(connection);
        for user in 0..shared.model.users() {
            let mut state = shared.model.state(user);
            state.lasting += 1;
            shared.model.begin(user, state);
        }
        shared.replace(|| {
            fs::rename(&new, &shared.database).unwrap();
            for suffix in ["-wal", "-shm"] {
                match fs::remove_file(companion(suffix)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
                    _ => {}
                }
            }
        });
        let at = now();
        for user in 0..shared.model.users() {
            shared.model.done(user, at);
        }
        count(&shared.counts.renames);
    }

    /// Takes a new key into use, and the one before the last out of it.
    fn reload(&mut self) {
        if !RELOADS {
            return;
        }
        let (last, next) = (key(self.keys), key(self.keys + 1));
        self.keys += 1;
        fs::write(self.config, config(&[&last, &next])).unwrap();
        signal(self.server, "-HUP");
        let mut client = Client::new(&self.shared.address);
        let started = wall();
        let mut status = |key: &str| {
            let request = format!(
                "GET /internal/session/sessions/u/active HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nX-Tenant-ID: t\r\n\r\n"
            );
            client
                .ask(request.as_bytes())
                .map_or(0, |response| response.status)
        };
        while status(&next) != 200 {
            if wall() - started > 10_000 {
                self.shared
                    .fault("a new key was not taken within 10 s of SIGHUP".to_owned());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let [old, still] =
            [self.keys.checked_sub(2).map(key), Some(last)].map(|key| key.map(|key| status(&key)));
        if old.is_some_and(|status| status != 401) || still != Some(200) {
            self.shared.fault(format!(
                "after SIGHUP an old key got {old:?}, and the one before the new {still:?}"
            ));
        }
        *self.shared.key.write().unwrap() = next;
        count(&self.shared.counts.reloads);
    }
}

pub(crate) fn key(number: u64) -> String {
    format!("a-key-of-the-soak-{number:0>20}")
}

/// The configuration of a server with these keys.
pub(crate) fn config(keys: &[&str]) -> String {
    let key = |key: &&str| format!("[[auth.keys]]\nname = \"{key}\"\nkey = \"{key}\"\n");
    keys.iter().map(key).collect()
}

pub(crate) fn signal(process: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
