//! The servers as processes, and what the kernel says of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The key that callers send.
pub(crate) const KEY: &str = "a-key-for-benchmarks-of-32-chars";

/// A running server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// `host:port`
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn bare() -> Self {
        Self::bare_under(&[])
    }

    /// The bare server as an argument of another program.
    pub(crate) fn bare_under(program: &[String]) -> Self {
        let mut command = under(program, &std::env::current_exe().unwrap());
        command.arg("bare");
        Self::start(command)
    }

    pub(crate) fn sessile(database: &Path) -> Self {
        Self::sessile_under(&[], database)
    }

    pub(crate) fn sessile_under(program: &[String], database: &Path) -> Self {
        let mut command = under(program, Path::new(env!("CARGO_BIN_EXE_sessile")));
        command.args([
            "serve",
            "--config",
            "/dev/null",
            "--listen",
            "127.0.0.1:0",
            "--database",
        ]);
        // What happens once an hour belongs to no round.
        command
            .arg(database)
            .env("INTERNAL_API_KEY", KEY)
            .env("SESSILE_DATABASE__INTEGRITY_CHECK_INTERVAL", "off");
        Self::start(command)
    }

    /// With TLS by the files `cert.pem` and `key.pem` of `folder`.
    pub(crate) fn sessile_with_tls(database: &Path, folder: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessile"));
        command
            .args(["serve", "--config", "/dev/null", "--listen", "127.0.0.1:0"])
            .arg("--database")
            .arg(database)
            .current_dir(folder)
            .env("INTERNAL_API_KEY", KEY)
            .env("SESSILE_DATABASE__INTEGRITY_CHECK_INTERVAL", "off")
            .env("SESSILE_SERVER__TLS__CERT", "cert.pem")
            .env("SESSILE_SERVER__TLS__KEY", "key.pem");
        Self::start(command)
    }

    /// nginx with the same answer and headers, or why it can't be had.
    pub(crate) fn nginx(folder: &Path) -> Result<Self, String> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let configuration = format!(
            "daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log stderr;
             events {{ worker_connections 1024; }}
             http {{ access_log off; keepalive_requests 1000000000; default_type application/json;
                     client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
                     uwsgi_temp_path {folder}; scgi_temp_path {folder};
                     server {{ listen 127.0.0.1:{port} reuseport; location / {{
                         add_header Cache-Control no-store; add_header X-Content-Type-Options nosniff;
                         add_header X-Request-ID req_550e8400-e29b-41d4-a716-446655440000;
                         return 200 '{{\"active\":true,\"session_count\":3}}'; }} }} }}",
            folder = folder.display()
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx does not start: {error}"))?;
        let address = format!("127.0.0.1:{port}");
        while std::net::TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, address })
    }

    fn start(command: Command) -> Self {
        Self::try_start(command).unwrap()
    }

    /// Starts a server that says where it listens, or tells what it said instead.
    pub(crate) fn try_start(mut command: Command) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!(
                    "{} does not start: {error}",
                    command.get_program().display()
                )
            })?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim_end().strip_prefix("listening on http");
        let Some(address) = url.and_then(|url| url.trim_start_matches('s').strip_prefix("://"))
        else {
            let mut error = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut error)
                .unwrap();
            return Err(format!("no ready line but {line:?}; {error}"));
        };
        let address = address.to_owned();
        Ok(Self { child, address })
    }

    /// Ends it by SIGTERM, and waits for that.
    pub(crate) fn terminate(mut self) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap();
    }

    /// Its process and those that it has started.
    fn processes(&self) -> Vec<u32> {
        let id = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|child| child.parse().ok());
        std::iter::once(id).chain(children).collect()
    }

    /// The time that its threads, those that live, have run.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = self
            .processes()
            .into_iter()
            .flat_map(|id| fs::read_dir(format!("/proc/{id}/task")).unwrap());
        let nanoseconds = tasks.map(|task| {
            let statistics =
                fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            statistics
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Waits until it has next to nothing to do.
    pub(crate) fn settle(&self) {
        const LOOK: Duration = Duration::from_millis(200);
        let mut before = self.processor_time();
        loop {
            std::thread::sleep(LOOK);
            let now = self.processor_time();
            if now - before < LOOK / 20 {
                return;
            }
            before = now;
        }
    }

    /// Resident memory of its processes that is no mapped file, in bytes.
    pub(crate) fn anonymous_memory(&self) -> u64 {
        let memory = self.processes().into_iter().map(|id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        });
        memory.sum()
    }
}

/// A command for `executable`, run by the program in front of it where there is one.
fn under(program: &[String], executable: &Path) -> Command {
    match program {
        [] => Command::new(executable),
        [name, args @ ..] => {
            let mut command = Command::new(name);
            command.args(args).arg(executable);
            command
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        // nginx ends its workers when it is asked to end.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        std::thread::sleep(Duration::from_millis(50));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
