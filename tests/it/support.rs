//! The program under test, and a client that can say exactly what it sends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The key that [`Sandbox::serve`] configures.
pub const KEY: &str = "a-key-for-tests-of-32-characters";

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder above `path` that keeps other users out of it, if there is one.
pub fn closed_to_others(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|folder| {
        fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o001 == 0)
    })
}

/// Says why a part of a test is left out, past the runner, which keeps the output of tests that pass to itself.
pub fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// Asks again and again, without a pause, until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
    }
}

/// A folder of its own, in which the program runs with an environment of its own.
pub struct Sandbox {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The standard output of a command that must have done what it was asked for.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The standard error of a command that must have failed with `code`.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.stderr
    }
}

impl Sandbox {
    /// An empty folder with a configuration file that says nothing, so that none of the machine's is found.
    pub fn new() -> Self {
        let sandbox = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        sandbox.write("sessile.toml", "");
        sandbox
    }

    /// With an empty data file at the default place.
    pub fn with_file() -> Self {
        let sandbox = Self::new();
        sandbox.run(&["init"]).ok();
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a named pipe.
    #[track_caller]
    pub fn pipe(&self, name: &str) -> PathBuf {
        let pipe = self.path(name);
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        pipe
    }

    pub fn database(&self) -> PathBuf {
        self.path("sessile.db")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessile"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    pub fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ended {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its input early closes the pipe; what it says of that is the test's business.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().into()
    }

    /// Takes NDJSON into the data file.
    #[track_caller]
    pub fn import(&self, sessions: &str) {
        self.run_with_input(&["import", "-"], sessions.as_bytes())
            .ok();
    }

    /// Starts a server with [`KEY`] on a free port, and waits until it is ready.
    pub fn serve(&self, args: &[&str]) -> Server {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(args).env("INTERNAL_API_KEY", KEY);
        Server::start(command)
    }

    /// An SQL statement by the stock `sqlite3`; `None`, with a printed reason, where it is not installed.
    #[track_caller]
    pub fn sqlite3(&self, sql: &str) -> Option<String> {
        let output = match Command::new("sqlite3")
            .arg("-bail")
            .arg(self.database())
            .arg(sql)
            .output()
        {
            Ok(output) => output,
            Err(error) => {
                skipped(&format!("the stock sqlite3 can't be run here: {error}"));
                return None;
            }
        };
        Some(Ended::from(output).ok())
    }

    /// A number that SQL gives of the data file.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        let number = |row: &rusqlite::Row<'_>| row.get(0);
        let number: i64 = self.sqlite().query_row(sql, [], number).unwrap();
        number.try_into().unwrap()
    }

    /// A connection to the data file for a test to write by.
    pub fn sqlite(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.database()).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        // No test cuts the power, and a machine's disk may take seconds for what others write.
        connection
            .execute_batch("PRAGMA synchronous = OFF")
            .unwrap();
        connection
    }
}

/// A small file system of its own, unmounted when dropped.
pub struct Small(PathBuf);

impl Small {
    /// `None`, with a printed reason, where nothing can be mounted.
    pub fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"])
            .arg(&at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            Ok(output) => {
                skipped(&format!(
                    "a full file system: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                ));
                None
            }
            Err(error) => {
                skipped(&format!("a full file system: {error}"));
                None
            }
        }
    }

    /// A folder that is there already, at another place.
    pub fn bind(folder: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let bound = Command::new("mount")
            .arg("--bind")
            .args([folder, &at])
            .status();
        assert!(bound.unwrap().success());
        Self(at)
    }

    pub fn grow(&self) {
        let grown = Command::new("mount")
            .args(["-o", "remount,size=200m"])
            .arg(&self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Every row that `select` finds, every column.
pub fn rows(connection: &rusqlite::Connection, select: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let mut select = connection.prepare(select).unwrap();
    let width = select.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..width).map(|index| row.get(index)).collect();
    select
        .query_map([], row)
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// `host:port`
    pub address: String,
    /// What stood behind `listening on `.
    pub urls: String,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(urls) = line.trim_end().strip_prefix("listening on ") else {
            panic!(
                "no ready line but {line:?}; {:?}",
                Ended::from(child.wait_with_output().unwrap())
            );
        };
        let first = urls.split(", ").next().unwrap();
        let address = first
            .strip_prefix("http://")
            .or(first.strip_prefix("https://"))
            .unwrap_or_default()
            .to_owned();
        Self {
            child,
            stdout,
            address,
            urls: urls.to_owned(),
        }
    }

    /// The next line of standard output.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end of the program.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the server goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        Ended {
            code: self.child.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }

    pub fn connect(&self) -> Connection<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection::over(stream)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Response {
        self.connect().ask(request)
    }

    /// The question of the operation, with a good key.
    #[track_caller]
    pub fn count(&self, tenant: &str, user_segment: &str) -> Response {
        self.ask(&question(
            user_segment,
            &[("X-API-Key", KEY), ("X-Tenant-ID", tenant)],
        ))
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    /// Where a test has failed, the log may say why.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(mut stderr) = self.child.stderr.take()
        {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            let _ = writeln!(std::io::stderr(), "the server's log: {log}");
        }
    }
}

/// A GET of the operation with these header fields and a Host.
pub fn question(user_segment: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    request(
        "GET",
        &format!("/internal/session/sessions/{user_segment}/active"),
        fields,
    )
}

/// A request with these header fields and a Host.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes()
}

/// Percent-encodes every byte that is not a letter or digit: what a careful client does with a user id.
pub fn encode(user: &str) -> String {
    percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A client's connection.
pub struct Connection<S> {
    stream: BufReader<S>,
}

/// A response, with the names of its header fields in lower case.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub fields: BTreeMap<String, String>,
    pub body: String,
}

impl Response {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// `field:code` of each violation.
    #[track_caller]
    pub fn violations(&self) -> Vec<String> {
        let json = self.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        errors
            .iter()
            .map(|error| format!("{}:{}", text(&error["field"]), text(&error["code"])))
            .collect()
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    #[track_caller]
    pub fn ask(&mut self, request: &[u8]) -> Response {
        self.send(request);
        self.receive(request.starts_with(b"HEAD "))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    #[track_caller]
    pub fn receive(&mut self, is_head: bool) -> Response {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no response but {line:?}"));
        let status = status.parse().unwrap();
        let mut fields = BTreeMap::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            let doubled = fields.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(doubled, None, "the response has {name} twice");
        }
        let length = fields
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if is_head { 0 } else { length }];
        self.stream.read_exact(&mut body).unwrap();
        Response {
            status,
            fields,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Whether the server has closed the connection; waits for it to do so or to say something.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }
}

/// A file of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}
