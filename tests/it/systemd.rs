//! What systemd hands over and is told, without systemd: sockets, readiness, reloads and the watchdog.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::callers::Stop;
use crate::support::{Connection, Ended, KEY, PATIENCE, Sandbox, Server, question, wait_until};

/// A watchdog's limit for tests: asked for every 0.2 s.
const LIMIT_USEC: &str = "600000";

/// systemd's end of the socket that a service tells its state by.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(sandbox: &Sandbox) -> Self {
        let socket = UnixDatagram::bind(sandbox.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    fn serve(&self, sandbox: &Sandbox, args: &[&str]) -> Server {
        let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(args).env("INTERNAL_API_KEY", KEY);
        command.env("NOTIFY_SOCKET", sandbox.path("notify"));
        command.env("WATCHDOG_USEC", LIMIT_USEC);
        Server::start(command)
    }

    fn receive(&self) -> String {
        let mut bytes = [0; 4096];
        // A process that is stopped and goes on has its waits interrupted.
        let length = loop {
            match self.socket.recv(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next message that is no sign of life.
    fn receive_other(&self) -> String {
        loop {
            let message = self.receive();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    /// How many signs of life come within a time.
    fn signs_within(&self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut signs = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            signs += usize::from(self.socket.recv(&mut [0; 64]).is_ok());
        }
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        signs
    }

    fn wait_for_a_sign(&self) {
        while self.receive() != "WATCHDOG=1\n" {}
    }
}

#[test]
fn systemd_is_told_what_the_service_does() {
    let sandbox = Sandbox::with_file();
    let manager = Manager::new(&sandbox);
    let server = manager.serve(&sandbox, &[]);
    let ready = format!("READY=1\nSTATUS=answering at {}\n", server.urls);
    assert_eq!(manager.receive(), ready);
    assert_eq!(manager.receive(), "WATCHDOG=1\n");
    assert_eq!(manager.receive(), "WATCHDOG=1\n");

    server.signal("-HUP");
    let reloading = manager.receive_other();
    let (first, usec) = reloading.split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    let usec = usec.trim_end().strip_prefix("MONOTONIC_USEC=").unwrap();
    usec.parse::<u64>().unwrap();
    assert_eq!(manager.receive_other(), "READY=1\n");

    // A reload that fails has ended, too.
    sandbox.write("sessile.toml", "nonsense = 1");
    server.signal("-HUP");
    assert!(manager.receive_other().starts_with("RELOADING=1\n"));
    assert_eq!(manager.receive_other(), "READY=1\n");

    server.signal("-TERM");
    assert!(manager.receive_other().starts_with("STOPPING=1\nSTATUS="));
    server.ended();
}

#[test]
fn one_worker_that_hangs_is_enough_for_the_watchdog() {
    let sandbox = Sandbox::with_file();
    let manager = Manager::new(&sandbox);
    // Where a debugger may hold the program's threads.
    let server = manager.serve(&sandbox, &["--mode", "development", "--log-format", "text"]);
    manager.wait_for_a_sign();

    let worker = thread_named(&server, "worker-0");
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    // What was on its way, and one question that may have been answered before.
    manager.signs_within(Duration::from_millis(300));
    assert_eq!(manager.signs_within(Duration::from_millis(1000)), 0);

    // Let go, as the end of a tracer lets go, it answers again.
    let _ = nix::sys::wait::waitpid(worker, Some(nix::sys::wait::WaitPidFlag::__WALL));
    ptrace::detach(worker, None).unwrap();
    manager.wait_for_a_sign();
    server.signal("-TERM");
    let told = server.ended().stderr;
    assert!(
        told.contains("a worker has not answered for 200ms"),
        "{told}"
    );
}

#[test]
fn a_file_that_gives_no_answer_is_no_reason_to_start_anew() {
    let sandbox = Sandbox::with_file();
    let manager = Manager::new(&sandbox);
    let server = manager.serve(&sandbox, &[]);
    manager.wait_for_a_sign();
    fs::remove_file(sandbox.database()).unwrap();
    assert_eq!(server.count("acme", "alice").status, 500);
    for _ in 0..3 {
        assert_eq!(manager.receive(), "WATCHDOG=1\n");
    }
}

#[test]
fn without_systemd_nothing_is_told() {
    let sandbox = Sandbox::with_file();
    let manager = Manager::new(&sandbox);
    let server = sandbox.serve(&[]);
    assert_eq!(server.count("acme", "alice").status, 200);
    assert_eq!(manager.signs_within(Duration::from_millis(300)), 0);
}

fn thread_named(server: &Server, name: &str) -> Pid {
    let tasks = format!("/proc/{}/task", server.process_id());
    let is_it = |id: &String| {
        let comm = fs::read_to_string(format!("{tasks}/{id}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    let mut ids = fs::read_dir(&tasks)
        .unwrap()
        .map(|task| task.unwrap().file_name().into_string().unwrap());
    Pid::from_raw(ids.find(is_it).unwrap().parse().unwrap())
}

/// The program with these sockets as systemd hands them over, from number 3 on, with their names.
fn handed(sandbox: &Sandbox, sockets: &[OwnedFd], names: &str, args: &[&str]) -> Command {
    let mut script = String::new();
    for (number, socket) in sockets.iter().enumerate() {
        fcntl_setfd(socket.as_fd(), FdFlags::empty()).unwrap();
        // By way of high numbers, lest one takes the place of another that is still needed.
        script += &format!("exec {}<&{}; ", 100 + number, socket.as_raw_fd());
    }
    for number in 0..sockets.len() {
        script += &format!("exec {}<&{}; ", 3 + number, 100 + number);
    }
    script += "export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            &script,
            "bash",
            env!("CARGO_BIN_EXE_sessile"),
            "serve",
        ])
        .args(args)
        .current_dir(sandbox.path(""))
        .env_clear()
        .env("INTERNAL_API_KEY", KEY)
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::null());
    command
}

#[test]
fn sockets_that_are_handed_over_go_before_the_configured_addresses() {
    let sandbox = Sandbox::with_file();
    // Not free: the program would end if it listened there.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = sandbox.path("handed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin_address = admin.local_addr().unwrap();
    let sockets = [OwnedFd::from(tcp), unix.into(), admin.into()];
    let names = "sessile.socket:sessile.socket:admin";
    let server = Server::start(handed(&sandbox, &sockets, names, &["--listen", &taken]));
    let unix = format!("unix:{}", path.display());
    assert_eq!(server.urls, format!("http://{address}, {unix}"));

    let fields = [("X-API-Key", KEY), ("X-Tenant-ID", "acme")];
    assert_eq!(server.count("acme", "alice").status, 200);
    let mut connection = Connection::over(UnixStream::connect(&path).unwrap());
    assert_eq!(connection.ask(&question("alice", &fields)).status, 200);
    let ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(server.ask(ready).status, 404);
    let admin = std::net::TcpStream::connect(admin_address).unwrap();
    assert_eq!(Connection::over(admin).ask(ready).status, 200);

    // Its file is not ours to remove.
    server.signal("-TERM");
    assert_eq!(server.ended().code, Some(0));
    assert!(path.exists());
}

#[test]
fn what_can_not_be_served_at_is_refused() {
    let sandbox = Sandbox::with_file();
    let refused = |sockets: &[OwnedFd], args: &[&str]| {
        let output = handed(&sandbox, sockets, "x", args).output().unwrap();
        Ended::from(output).failed(5)
    };
    let file = fs::File::open(sandbox.database()).unwrap();
    let told = refused(&[file.into()], &[]);
    assert!(
        told.contains("found \"x\", number 0: fd 3 is not a socket"),
        "{told}"
    );
    let (one, _other) = UnixStream::pair().unwrap();
    let told = refused(&[one.into()], &[]);
    assert!(
        told.contains("it does not listen; allowed: TCP and unix"),
        "{told}"
    );
    // What other machines can reach is judged like an address of the configuration.
    for args in [&["--mode", "development"][..], &[]] {
        let abroad = TcpListener::bind("0.0.0.0:0").unwrap();
        let output = handed(&sandbox, &[abroad.into()], "x", args).output();
        let told = Ended::from(output.unwrap()).failed(3);
        assert!(
            told.contains("found a name or a socket that stands for 0.0.0.0:"),
            "{told}"
        );
    }
}

/// Callers come and go without a pause while one server after the other takes over the socket.
#[test]
fn a_restart_refuses_nobody_where_the_socket_is_handed_over() {
    let sandbox = Sandbox::with_file();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let sockets = [OwnedFd::from(socket)];
    let start = || Server::start(handed(&sandbox, &sockets, "sessile.socket", &[]));
    let request = question(
        "alice",
        &[
            ("X-API-Key", KEY),
            ("X-Tenant-ID", "acme"),
            ("Connection", "close"),
        ],
    );
    let (done, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let last = thread::scope(|scope| {
        let mut server = start();
        let stop = Stop(&done);
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let stream = std::net::TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    // Most callers have connected before they know what to ask.
                    thread::sleep(Duration::from_millis(3));
                    assert_eq!(Connection::over(stream).ask(&request).status, 200);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..10 {
            let before = answers.load(Ordering::Relaxed);
            wait_until("50 more callers have their answers", || {
                thread::sleep(Duration::from_millis(1));
                answers.load(Ordering::Relaxed) >= before + 50
            });
            server.signal("-TERM");
            assert_eq!(server.ended().code, Some(0));
            server = start();
        }
        drop(stop);
        server // which outlives the callers
    });
    last.signal("-TERM");
    assert_eq!(last.ended().code, Some(0));
}
