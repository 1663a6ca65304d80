//! `serve` as a process: its ready line, its listeners, its demonstration and its end.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::{
    Connection, Ended, KEY, PATIENCE, Sandbox, Server, question, request, skipped,
};

const KEYED: (&str, &str) = ("X-API-Key", KEY);
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");

#[test]
fn a_signal_ends_it_with_0() {
    for signal in ["-TERM", "-INT"] {
        let sandbox = Sandbox::with_file();
        let server = sandbox.serve(&[]);
        let mut idle = server.connect();
        assert_eq!(idle.ask(&question("u", &[KEYED, TENANT])).status, 200);
        server.signal(signal);
        let ended = server.ended();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(idle.is_closed());
    }
}

/// A request that arrives whole only after the signal, on a connection from before it.
#[test]
fn a_draining_server_says_503() {
    let sandbox = Sandbox::with_file();
    let server = sandbox.serve(&["--log-level", "info"]);
    let mut connection = server.connect();
    let whole = question("u", &[KEYED, TENANT]);
    let (first, second) = whole.split_at(20);
    connection.send(first);
    // Connections go to the worker that has the fewest, and each worker takes them in turn: once many later ones
    // have had an answer, every worker has read what came before.
    let mut later: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for connection in &mut later {
        assert_eq!(connection.ask(&whole).status, 200);
    }
    server.signal("-TERM");
    while std::net::TcpStream::connect(&server.address).is_ok() {} // the listener goes after the flag
    connection.send(second);
    let response = connection.receive(false);
    assert_eq!(
        (response.status, response.field("retry-after")),
        (503, Some("1")),
        "{response:?}"
    );
    assert_eq!(response.json()["retry_after"], 1);
    assert_eq!(response.json()["type"], "/problems/unavailable");
    assert_eq!(response.json()["code"], 30105030);
    assert!(connection.is_closed());
    let ended = server.ended();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("the server is stopping"),
        "{}",
        ended.stderr
    );
}

/// A load balancer that asks for readiness sees it go before the listeners go, and questions are answered until then.
#[test]
fn readiness_goes_before_the_listeners_do() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "server.drain_delay = \"3s\"");
    let server = sandbox.serve(&[]);
    let mut kept = server.connect();
    let whole = question("u", &[KEYED, TENANT]);
    assert_eq!(kept.ask(&whole).status, 200);
    let began = Instant::now();
    server.signal("-TERM");
    let mut ready = server.ask(&request("GET", "/readyz", &[]));
    while ready.status == 200 {
        assert!(began.elapsed() < std::time::Duration::from_secs(3));
        ready = server.ask(&request("GET", "/readyz", &[]));
    }
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["status"], "unready");
    assert_eq!(
        ready.json()["checks"][0],
        serde_json::json!({"name": "accepting", "ok": false, "detail": "stopping"})
    );
    assert_eq!(server.count("t", "u").status, 200);
    assert_eq!(kept.ask(&whole).status, 200);
    assert_eq!(server.ask(&request("GET", "/healthz", &[])).status, 200);
    assert_eq!(server.ended().code, Some(0));
    assert!(began.elapsed() >= std::time::Duration::from_secs(3));
    assert!(kept.is_closed());
}

/// Whoever can't wait says it twice.
#[test]
fn a_second_signal_ends_the_delay() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "server.drain_delay = \"60s\"");
    let server = sandbox.serve(&[]);
    server.signal("-TERM");
    while server.ask(&request("GET", "/readyz", &[])).status == 200 {}
    let began = Instant::now();
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn it_listens_in_several_places() {
    let sandbox = Sandbox::with_file();
    let socket = sandbox.path("s.sock");
    let unix = format!("unix:{}", socket.display());
    sandbox.write(
        "sessile.toml",
        &format!(
            "[server]\nlisten = [\"127.0.0.1:0\", \"{unix}\"]\nadmin_listen = \"127.0.0.1:0\"\n"
        ),
    );
    let mut command = sandbox.command(&["serve"]);
    command.env("INTERNAL_API_KEY", KEY);
    let mut server = Server::start(command);
    assert!(
        server.urls.ends_with(&format!(", {unix}")),
        "{}",
        server.urls
    );
    let admin = server.read_line();
    let admin = admin
        .strip_prefix("admin listening on http://")
        .unwrap()
        .to_owned();

    let mut by_socket = Connection::over(UnixStream::connect(&socket).unwrap());
    assert_eq!(by_socket.ask(&question("u", &[KEYED, TENANT])).status, 200);
    assert_eq!(server.count("t", "u").status, 200);
    assert_eq!(server.ask(&request("GET", "/readyz", &[])).status, 404);
    let mut by_admin = Connection::over(std::net::TcpStream::connect(&admin).unwrap());
    assert_eq!(by_admin.ask(&request("GET", "/readyz", &[])).status, 200);
    assert_eq!(by_admin.ask(&question("u", &[KEYED, TENANT])).status, 404);

    let mut second = sandbox.command(&["serve", "--listen", &unix]);
    let refused = Ended::from(second.env("INTERNAL_API_KEY", KEY).output().unwrap()).failed(5);
    assert!(
        refused.contains("another process listens there"),
        "{refused}"
    );
    server.signal("-KILL");
    assert_eq!(server.ended().code, None);
    assert!(socket.exists(), "nobody could remove it");
    let mut again = sandbox.command(&["serve", "--listen", &unix]);
    let again = Server::start({
        again.env("INTERNAL_API_KEY", KEY);
        again
    });
    again.signal("-TERM");
    assert_eq!(again.ended().code, Some(0));
    assert!(
        !socket.exists(),
        "a server that ends takes its socket file along"
    );
}

#[test]
fn a_file_in_the_place_of_a_socket_is_not_removed() {
    let sandbox = Sandbox::with_file();
    let path = sandbox.write("precious", "data");
    let address = format!("unix:{}", path.display());
    let mut command = sandbox.command(&["serve", "--listen", &address]);
    Ended::from(command.env("INTERNAL_API_KEY", KEY).output().unwrap()).failed(5);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "data");
}

#[test]
fn the_demonstration_answers_its_own_lines() {
    let sandbox = Sandbox::new();
    sandbox.write("sessile.toml", "this would be a fault");
    let mut command = sandbox.command(&["serve", "--demo", "--listen", "127.0.0.1:0"]);
    command
        .env("SESSILE_MODE", "nonsense")
        .env("TMPDIR", sandbox.path(""));
    let mut server = Server::start(command);
    let mut answers = Vec::new();
    let mut printed = Vec::new();
    loop {
        let line = server.read_line();
        if line.starts_with("Ctrl-C") {
            break;
        }
        if let Some(arguments) = line.strip_prefix("curl ") {
            match Command::new("sh")
                .args(["-c", &format!("curl {arguments}")])
                .output()
            {
                Ok(output) if output.status.code() != Some(127) => {
                    answers.push(Ended::from(output).ok())
                }
                _ => skipped("there is no curl here"),
            }
        }
        printed.push(line.replace(&server.address, "[address]"));
    }
    insta::assert_snapshot!(printed.join("\n"));
    if let [three, none, bad, unknown] = answers.as_slice() {
        assert_eq!(three, r#"{"active":true,"session_count":3}"#);
        assert_eq!(none, r#"{"active":false,"session_count":0}"#);
        assert!(bad.contains("\"status\":400") && unknown.contains("\"status\":401"));
    } else {
        assert!(answers.is_empty(), "{answers:?}");
    }
    let folders = || {
        std::fs::read_dir(sandbox.path(""))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    };
    assert_eq!(folders(), 1);
    server.signal("-INT");
    assert_eq!(server.ended().code, Some(0));
    assert_eq!(folders(), 0, "the throw-away file is gone");
}

/// Two demonstrations: at most one gets the usual port.
#[test]
fn a_second_demonstration_takes_a_free_port() {
    let sandbox = Sandbox::new();
    let start = || {
        let mut command = sandbox.command(&["serve", "--demo"]);
        command.env("TMPDIR", sandbox.path(""));
        Server::start(command)
    };
    let (first, second) = (start(), start());
    assert_ne!(first.address, second.address);
    let fields = [("X-API-Key", "demo-key"), ("X-Tenant-ID", "acme")];
    assert_eq!(
        second.ask(&question("alice", &fields)).body,
        r#"{"active":true,"session_count":3}"#
    );
}

/// No connection and no descriptor is left behind by the requests of an hour in a second.
#[test]
fn descriptors_do_not_leak() {
    let sandbox = Sandbox::with_file();
    // In production only root may look.
    let server = sandbox.serve(&["--mode", "development"]);
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.process_id()))
            .unwrap()
            .count()
    };
    server.count("t", "u");
    let before = descriptors();
    for _ in 0..200 {
        assert_eq!(server.count("t", "u").status, 200);
    }
    assert!(
        descriptors() <= before + 4,
        "{before} became {}",
        descriptors()
    );
}

/// While one caller asks about a user with very many sessions, again and again, a second request is one too many.
#[test]
fn too_many_requests_in_flight_are_503() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "[server]\nmax_in_flight = 1\n");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO session (tenant_id, id, user_id, created_at, expires_at)
        SELECT 't', i, 'many', 0, 9999999999999 FROM n";
    sandbox.sqlite().execute_batch(many).unwrap();
    let server = sandbox.serve(&[]);
    let stop = AtomicBool::new(false);
    let turned_away = thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connect();
            while !stop.load(Ordering::Relaxed) {
                connection.ask(&question("many", &[KEYED, TENANT]));
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let turned_away = loop {
            let response = server.count("t", "u");
            if response.status != 200 || Instant::now() > deadline {
                break response;
            }
        };
        stop.store(true, Ordering::Relaxed);
        turned_away
    });
    assert_eq!(
        (turned_away.status, turned_away.field("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(turned_away.json()["type"], "/problems/unavailable");
    assert_eq!(
        server.count("t", "many").json()["session_count"],
        100_000,
        "and then there is room again"
    );
}

#[test]
fn help_names_the_exit_codes_and_the_commands() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["--help"]);
    insta::assert_snapshot!(Ended::from(command.env("COLUMNS", "100").output().unwrap()).ok());
}
