//! A machine, which is a folder here: the data file, Litestream's configuration, and the programs that run there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rusqlite::{Connection, OpenFlags};
use sessile::time::Timestamp;

use crate::login::{TENANT, TICK};
use crate::process::{Process, Took, run};
use crate::shared::Shared;

/// The key that callers send.
pub(crate) const KEY: &str = "a-key-for-replicas-of-32-letters";

/// What is packaged for Litestream.
const PACKAGED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/litestream");

/// What of the packaged configuration is another here: where the files are, and, lest a test takes hours, how often
/// there is a new snapshot.
const DATABASE: &str = "- path: /var/lib/sessile/sessions.db";
const REPLICA: &str = "path: /var/backups/sessile/replica";
const SNAPSHOTS: &str = "snapshot-interval:";

pub(crate) struct Node {
    pub(crate) name: &'static str,
    folder: PathBuf,
    litestream: PathBuf,
}

impl Node {
    pub(crate) fn new(shared: &Shared, name: &'static str) -> Self {
        let folder = shared.root.join(name);
        fs::create_dir(&folder).unwrap();
        let node = Self {
            name,
            folder,
            litestream: shared.litestream.clone(),
        };
        let packaged = fs::read_to_string(format!("{PACKAGED}/litestream.yml")).unwrap();
        let (database, replica) = (node.database(), replica(shared));
        let mut changed = 0;
        let mut config = String::new();
        for line in packaged.lines() {
            let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
            let here = match rest {
                DATABASE => format!("- path: {}", database.display()),
                REPLICA => format!("path: {}", replica.display()),
                _ if rest.starts_with(SNAPSHOTS) => format!("{SNAPSHOTS} 10s"),
                _ => rest.to_owned(),
            };
            changed += u32::from(here != rest);
            config += &format!("{indent}{here}\n");
        }
        assert_eq!(changed, 3, "{config}");
        fs::write(node.config(), config).unwrap();
        node
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("sessions.db")
    }

    fn config(&self) -> PathBuf {
        self.folder.join("litestream.yml")
    }

    /// What its programs said on standard error.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A command of sessile, for the data file.
    fn sessile(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessile"));
        command
            .args(args)
            .args(["--config", "/dev/null", "--database"])
            .arg(self.database())
            .env("INTERNAL_API_KEY", KEY)
            .env("SESSILE_LOG__LEVEL", "warn");
        command
    }

    /// Runs a command of sessile, which must not fail.
    pub(crate) fn run(&self, args: &[&str]) -> Took {
        run(&mut self.sessile(args), &self.log()).unwrap()
    }

    /// A server, and its `host:port`.
    pub(crate) fn serve(&self, args: &[&str], stale_after: &str) -> (Process, String) {
        let mut command = self.sessile(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        command
            .env("SESSILE_DATABASE__STALE_AFTER", stale_after)
            .env("SESSILE_DATABASE__INTEGRITY_CHECK_INTERVAL", "off");
        let (server, line) = Process::start_and_hear(&mut command, &self.log());
        let address = line.trim_end().strip_prefix("listening on http://");
        (server, address.expect(&line).to_owned())
    }

    /// Writes heartbeats, of which the first is in the file on return.
    pub(crate) fn beat(&self) -> Process {
        let mut command = self.sessile(&["heartbeat", "--every", "1s"]);
        let (beating, line) = Process::start_and_hear(&mut command, &self.log());
        assert!(line.starts_with("writing a heartbeat"), "{line}");
        beating
    }

    /// A script of the package, for the data file.
    fn packaged(&self, script: &str) -> Command {
        let mut command = Command::new(format!("{PACKAGED}/{script}"));
        command
            .args([self.database(), self.config()])
            .env("LITESTREAM", &self.litestream)
            .env("SESSILE", env!("CARGO_BIN_EXE_sessile"));
        command
    }

    pub(crate) fn replicate(&self) -> Process {
        Process::start(&mut self.packaged("replicate"), &self.log())
    }

    /// Takes over the newest state of the replica.
    pub(crate) fn follow(&self) -> Result<Took, String> {
        run(&mut self.packaged("follow"), &self.log())
    }

    /// How many commits of the login system are in the file itself, where nobody writes it.
    pub(crate) fn held(&self) -> u64 {
        let uri = format!("file:{}?immutable=1", self.database().display());
        let file = Connection::open_with_flags(uri, OpenFlags::default()).unwrap();
        let sql = "SELECT count(*) FROM session WHERE tenant_id = ?1 AND user_id = ?2";
        let held: i64 = file
            .query_row(sql, [TENANT, TICK], |row| row.get(0))
            .unwrap();
        held.cast_unsigned()
    }

    /// Takes over the state of a moment.
    pub(crate) fn restore(&self, at: Timestamp) -> Took {
        let new = self.folder.join("new.db");
        let mut command = Command::new(&self.litestream);
        command
            .args(["restore", "-timestamp", &at.to_string(), "-config"])
            .arg(self.config())
            .arg("-o")
            .args([&new, &self.database()]);
        let restored = run(&mut command, &self.log()).unwrap();
        self.run(&["swap", new.to_str().unwrap()]);
        restored
    }
}

/// Where all nodes replicate to, and from.
fn replica(shared: &Shared) -> PathBuf {
    shared.root.join("replica")
}

/// The sizes of the replica's files of a kind, `wal` or `snapshots`, that are whole: of others the name ends with `.tmp`.
pub(crate) fn sizes(shared: &Shared, kind: &str) -> Vec<u64> {
    let children = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path())
    };
    children(replica(shared).join("generations"))
        .flat_map(|generation| children(generation.join(kind)))
        .filter(|file| file.extension().is_some_and(|extension| extension == "lz4"))
        .map(|file| fs::metadata(file).unwrap().len())
        .collect()
}
