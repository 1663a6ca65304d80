//! What a caller can't take from the others: places, time, memory and the end of the server.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Connection, KEY, PATIENCE, Response, Sandbox, Server, question, request, skipped,
};

const KEYED: (&str, &str) = ("X-API-Key", KEY);
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");
const HALF: &[u8] = b"GET /internal/session/sessions/u/active HTTP/1.1\r\nHost: a\r\nX-";

/// A time that no test waits for.
const FOREVER: &str = "1h";

/// A server with these settings, in TOML, of its table.
fn server(settings: &str) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", &format!("[server]\n{settings}"));
    let server = sandbox.serve(&[]);
    (sandbox, server)
}

fn good() -> Vec<u8> {
    question("u", &[KEYED, TENANT])
}

fn stream(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for the server to close a connection on which it has nothing to say; how long that took.
#[track_caller]
fn closes(mut stream: impl Read) -> Duration {
    let started = Instant::now();
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed but {other:?}"),
    }
    started.elapsed()
}

/// Whether the server has closed a connection by now.
fn is_closed_now(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Sends requests whose answers it does not read until nothing more is taken, or `stream` is closed: how that ended.
fn ask_without_reading(stream: &mut impl Write) -> ErrorKind {
    let many = good().repeat(100);
    loop {
        if let Err(error) = stream.write_all(&many) {
            return error.kind();
        }
    }
}

#[test]
fn a_caller_that_asks_keeps_its_place_among_many_that_do_not() {
    let (_sandbox, server) = server("max_connections = 64\n");
    let mut caller = server.connect();
    let mut stalled = Vec::new();
    for number in 0..300 {
        let mut one = stream(&server);
        if number % 2 == 0 {
            one.write_all(HALF).unwrap();
        }
        stalled.push(one);
        assert_eq!(caller.ask(&good()).status, 200, "{number}");
    }
    assert_eq!(
        server.count("t", "u").status,
        200,
        "a new caller gets a place"
    );
    // The last to be taken in may not have been by now, and each took the place of an older one.
    for (number, stream) in stalled.iter().enumerate().take(300 - 64 - 1) {
        closes(stream);
        assert!(is_closed_now(stream), "{number}");
    }
    let open = stalled.iter().filter(|stream| !is_closed_now(stream));
    assert!(open.count() <= 63);
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert!(log.contains("server.max_connections are open"), "{log}");
}

#[test]
fn the_head_of_a_request_must_come_in_time() {
    let (_sandbox, server) = server(&format!(
        "header_timeout = \"300ms\"\nidle_timeout = \"{FOREVER}\"\n"
    ));
    let started = Instant::now();
    let silent = stream(&server);
    let mut half = stream(&server);
    half.write_all(HALF).unwrap();
    let mut dripping = stream(&server);
    dripping.write_all(HALF).unwrap();
    let mut second = Connection::over(stream(&server));
    assert_eq!(second.ask(&good()).status, 200);
    second.send(HALF);
    while dripping.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(started.elapsed() < PATIENCE, "bytes win time");
    }
    closes(silent);
    closes(half);
    assert!(second.is_closed());
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let (_sandbox, server) = server(&format!(
        "idle_timeout = \"300ms\"\nheader_timeout = \"{FOREVER}\"\n"
    ));
    let started = Instant::now();
    let mut idle = Connection::over(stream(&server));
    for _ in 0..10 {
        assert_eq!(idle.ask(&good()).status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Instant::now();
    assert!(idle.is_closed());
    assert!(asked.elapsed() > Duration::from_millis(200), "{asked:?}");
    assert!(started.elapsed() < PATIENCE / 2);
}

#[test]
fn answers_must_be_taken_in_time() {
    let sandbox = Sandbox::with_file();
    let socket = sandbox.path("s.sock");
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    sandbox.write(
        "sessile.toml",
        &format!("[server]\n{listen}\nwrite_timeout = \"300ms\"\n"),
    );
    let mut command = sandbox.command(&["serve"]);
    command.env("INTERNAL_API_KEY", KEY);
    let server = Server::start(command);
    let mut by_unix = UnixStream::connect(&socket).unwrap();
    by_unix.set_write_timeout(Some(PATIENCE)).unwrap();
    for ended in [
        ask_without_reading(&mut stream(&server)),
        ask_without_reading(&mut by_unix),
    ] {
        assert!(
            matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{ended:?}"
        );
    }
}

/// Returns once the server has read what other connections sent before: connections go to the worker with the most
/// room, and each worker takes them in turn, so that every worker has by the time that many later ones are answered.
fn has_read(server: &Server) {
    let mut later: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for connection in &mut later {
        assert_eq!(connection.ask(&good()).status, 200);
    }
}

/// Neither half a head, nor silence, nor answers that nobody reads hold the end up.
#[test]
fn callers_that_are_waited_for_do_not_hold_the_end_up() {
    let (_sandbox, server) = server(&format!(
        "drain_timeout = \"{FOREVER}\"\nheader_timeout = \"{FOREVER}\"\nwrite_timeout = \"{FOREVER}\"\n"
    ));
    let _silent = stream(&server);
    let mut first = stream(&server);
    first.write_all(HALF).unwrap();
    let mut second = Connection::over(stream(&server));
    assert_eq!(second.ask(&good()).status, 200);
    second.send(HALF);
    let mut deaf = stream(&server);
    deaf.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert_eq!(ask_without_reading(&mut deaf), ErrorKind::WouldBlock);
    has_read(&server);
    let started = Instant::now();
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(ended.code, Some(0));
    assert!(started.elapsed() < PATIENCE / 4, "{ended:?}");
    assert!(!ended.stderr.contains("still open"), "{}", ended.stderr);
}

#[test]
fn the_end_comes_when_the_time_to_drain_has_passed() {
    let (_sandbox, server) = server("drain_timeout = \"100ms\"\n");
    let mut half = stream(&server);
    half.write_all(HALF).unwrap();
    has_read(&server);
    let started = Instant::now();
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(ended.code, Some(0));
    assert!(started.elapsed() < PATIENCE / 4, "{ended:?}");
    assert!(
        ended.stderr.contains("still open after 100ms"),
        "{}",
        ended.stderr
    );
}

/// Both signals wait for a server that was stopped, so that the second comes while the first is minded.
#[test]
fn a_second_signal_ends_it_at_once() {
    let (_sandbox, server) = server(&format!("drain_timeout = \"{FOREVER}\"\n"));
    let mut half = stream(&server);
    half.write_all(HALF).unwrap();
    has_read(&server);
    for signal in ["-STOP", "-TERM", "-INT", "-CONT"] {
        server.signal(signal);
    }
    let ended = server.ended();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("stopped at once, by a second signal"),
        "{}",
        ended.stderr
    );
}

fn statuses(server: &Server, requests: &[Vec<u8>]) -> Vec<u16> {
    requests
        .iter()
        .map(|request| server.ask(request).status)
        .collect()
}

/// A target of so many bytes, this many fields with Host, and one field of so many bytes.
fn sized(target: usize, fields: usize, bytes: usize) -> Vec<u8> {
    let path = "/internal/session/sessions/u/active?";
    let target = format!("{path}{}", "x".repeat(target - path.len()));
    let mut all = vec![KEYED, TENANT];
    all.extend(vec![("A", ""); fields - 4]);
    let lines = |fields: &[(&str, &str)]| -> usize {
        let line = |(name, value): &(&str, &str)| name.len() + value.len() + 4;
        fields.iter().map(line).sum()
    };
    let filler =
        "y".repeat(bytes.saturating_sub(lines(&all) + lines(&[("Host", "localhost"), ("B", "")])));
    all.push(("B", &filler));
    request("GET", &target, &all)
}

#[test]
fn a_request_may_be_as_large_as_is_set_and_no_larger() {
    for (settings, target, fields, bytes) in [
        ("", 6_144, 64, 16_384),
        (
            "max_target_bytes = 256\nmax_header_fields = 8\nmax_header_bytes = 1024\n",
            256,
            8,
            1_024,
        ),
        (
            "max_target_bytes = 16384\nmax_header_fields = 96\nmax_header_bytes = 65536\n",
            16_384,
            96,
            65_536,
        ),
    ] {
        let (_sandbox, server) = server(settings);
        let requests = [
            sized(target, fields, bytes),
            sized(target + 1, fields, bytes),
            sized(target, fields + 1, bytes),
            sized(target, fields, bytes + 1),
        ];
        assert_eq!(statuses(&server, &requests), [200, 414, 431, 431]);
        for (number, name) in [
            (1, "uri-too-long"),
            (2, "headers-too-large"),
            (3, "headers-too-large"),
        ] {
            let problem = server.ask(&requests[number]).json();
            assert_eq!(problem["type"], format!("/problems/{name}"));
        }
    }
}

/// The answer to what is refused reaches callers who say everything before they listen.
#[test]
fn what_is_not_read_does_not_take_the_answer_away() {
    let (_sandbox, server) = server("");
    let body = vec![b'x'; 200_000];
    let length = body.len().to_string();
    let with_body = question("u", &[KEYED, TENANT, ("Content-Length", &length)]);
    for (head, status) in [(with_body.as_slice(), 200), (HALF, 431)] {
        let mut stream = stream(&server);
        stream.write_all(head).unwrap();
        // In pieces, so that it is not all on its way before the first is refused.
        for piece in body.chunks(10_000) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut connection = Connection::over(stream);
        let response: Response = connection.receive(false);
        assert_eq!(
            (response.status, response.field("connection")),
            (status, Some("close"))
        );
        assert!(connection.is_closed());
    }
}

/// The lines of this process' limits that hold the number of open files: soft and hard.
fn open_files(server: &Server) -> (u64, u64) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process_id())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let mut numbers = line.split_whitespace();
    let mut number = || numbers.next().unwrap().parse().unwrap_or(u64::MAX);
    (number(), number())
}

/// A server behind a shell that sets limits first.
fn serve_under(sandbox: &Sandbox, limits: &str, args: &str) -> Server {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_sessile");
    command
        .args([
            "-c",
            &format!("{limits} && exec {program} serve --listen 127.0.0.1:0 {args}"),
        ])
        .current_dir(sandbox.path(""))
        .env("INTERNAL_API_KEY", KEY)
        .stdin(Stdio::null());
    Server::start(command)
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_connections_take() {
    let sandbox = Sandbox::with_file();
    let server = serve_under(&sandbox, "ulimit -S -n 128", "");
    let (soft, hard) = open_files(&server);
    assert!(soft > 10_000.min(hard - 1), "{soft} of {hard}");
}

#[test]
fn there_are_no_more_connections_than_open_files() {
    let sandbox = Sandbox::with_file();
    let server = serve_under(&sandbox, "ulimit -n 512", "");
    let mut connections: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for connection in connections.iter_mut().rev().take(10) {
        assert_eq!(connection.ask(&good()).status, 200);
    }
    assert!(
        std::fs::read_dir(format!("/proc/{}/fd", server.process_id())).map_or(0, Iterator::count)
            < 512
    );
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert!(
        log.contains("the hard limit of open files (RLIMIT_NOFILE) has room for"),
        "{log}"
    );
    // On a busy machine a place may be given away a moment before its descriptor is closed; the accept is tried again.
    assert!(log.matches("could not be accepted").count() <= 3, "{log}");
}

#[test]
fn a_crash_writes_no_memory_that_has_keys() {
    let dumps = |mode: &str| {
        let sandbox = Sandbox::with_file();
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_sessile");
        command
            .args([
                "-c",
                &format!(
                    "ulimit -c unlimited; exec {program} serve --listen 127.0.0.1:0 --mode {mode}"
                ),
            ])
            .current_dir(sandbox.path(""))
            .env("INTERNAL_API_KEY", KEY);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its first byte is the ready line's.
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut [0; 1])
            .unwrap();
        let abort = ["-ABRT", &child.id().to_string()].map(str::to_owned);
        assert!(Command::new("kill").args(abort).status().unwrap().success());
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(6));
        status.core_dumped()
    };
    assert!(!dumps("production"));
    if !dumps("development") {
        skipped("no core dumps are written here, with or without our doing");
    }
}

#[test]
fn a_listener_can_not_be_in_the_way_of_another() {
    let sandbox = Sandbox::with_file();
    for (listen, admin, named) in [
        (
            "\"127.0.0.1:11004\"",
            "\"127.0.0.1:11004\"",
            "server.admin_listen: found \"127.0.0.1:11004\", and \"127.0.0.1:11004\" in server.listen",
        ),
        (
            "\"0.0.0.0:11004\"",
            "[\"127.0.0.1:1\", \"localhost:11004\"]",
            "server.admin_listen: found \"localhost:11004\", and \"0.0.0.0:11004\" in server.listen",
        ),
        (
            "\"unix:/run/x\"",
            "\"unix:/run/x\"",
            "server.admin_listen: found \"unix:/run/x\"",
        ),
        (
            "[\"127.0.0.1:1\", \"0.0.0.0:1\"]",
            "\"127.0.0.1:2\"",
            "server.listen: found \"127.0.0.1:1\" and \"0.0.0.0:1\"",
        ),
    ] {
        sandbox.write(
            "sessile.toml",
            &format!("[server]\nlisten = {listen}\nadmin_listen = {admin}\n"),
        );
        let error = sandbox.run(&["config"]).failed(3);
        assert!(error.contains(named), "{error}");
    }
}
