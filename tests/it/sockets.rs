//! Who may connect without TLS: the mode, group and peers of unix sockets, and plain HTTP beyond this machine.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{
    Connection, Ended, KEY, Sandbox, Server, closed_to_others, question, skipped,
};

const FIELDS: [(&str, &str); 2] = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];

/// A user and a group that are nobody's here.
const STRANGER: u32 = 61_234;

/// A server at the unix socket `s.sock`, with these lines of `[server]`.
fn serve(lines: &str) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", &format!("[server]\n{lines}"));
    let unix = format!("unix:{}", sandbox.path("s.sock").display());
    // The mode is the configured one whatever the umask is.
    let program = env!("CARGO_BIN_EXE_sessile");
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("umask 077; exec {program} serve --listen '{unix}'"),
        ])
        .current_dir(sandbox.path(""))
        .env_clear()
        .env("INTERNAL_API_KEY", KEY);
    let server = Server::start(command);
    (sandbox, server)
}

#[test]
fn a_socket_has_the_mode_that_is_configured() {
    for (lines, mode) in [
        ("", 0o660),
        ("unix_mode = \"0600\"", 0o600),
        ("unix_mode = \"666\"", 0o666),
    ] {
        let (sandbox, _server) = serve(lines);
        let socket = fs::metadata(sandbox.path("s.sock")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o7777, mode, "{lines}");
    }
}

#[test]
fn modes_groups_and_peers_are_read_strictly() {
    let sandbox = Sandbox::new();
    for (line, allowed) in [
        (
            "unix_mode = 660",
            "found 660; allowed: a string of three or four octal digits",
        ),
        ("unix_mode = \"0680\"", "octal"),
        ("unix_mode = \"1777\"", "octal"),
        ("unix_mode = \"+77\"", "octal"),
        ("unix_mode = \"7\"", "octal"),
        (
            "unix_group = \"no-such-group\"",
            "found \"no-such-group\"; allowed: a group of this machine",
        ),
        (
            "unix_peers = []",
            "found []; allowed: a list of at least one user",
        ),
        ("unix_peers = \"root\"", "allowed: a list"),
        ("unix_peers = [\"no-such-user\"]", "allowed: a list"),
        ("unix_peers = [\"group:no-such-group\"]", "allowed: a list"),
        (
            "allow_plain = \"yes\"",
            "found \"yes\"; allowed: true or false",
        ),
    ] {
        sandbox.write("sessile.toml", &format!("[server]\n{line}\n"));
        let error = sandbox.run(&["config"]).failed(3);
        assert!(error.contains(allowed), "{error}");
    }
    sandbox.write(
        "sessile.toml",
        "[server]\nunix_group = \"root\"\nunix_peers = [\"root\", \"1001\", \"group:root\", \"group:1002\"]\n",
    );
    sandbox.run(&["config"]).ok();
}

/// The answer to one question, asked by a user of these ids; `None` where the connection was closed without one.
fn ask_as(sandbox: &Sandbox, user: u32, group: u32) -> Option<String> {
    let mut command = Command::new("curl");
    command
        .args(["-s", "-i", "-H", &format!("X-API-Key: {KEY}")])
        .args(["-H", "X-Tenant-ID: t", "--unix-socket"])
        .arg(sandbox.path("s.sock"))
        .arg("http://localhost/internal/session/sessions/u/active")
        .uid(user)
        .gid(group);
    let answer = Ended::from(command.output().unwrap());
    (answer.code == Some(0)).then_some(answer.stdout)
}

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    if !is_root || !has_curl {
        skipped("to ask as another user takes root and curl");
    }
    is_root && has_curl
}

#[test]
fn peers_who_are_not_listed_are_closed_at_once() {
    let own = fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    for peers in [
        format!("\"{uid}\""),
        format!("\"{STRANGER}\", \"group:{gid}\""),
    ] {
        let (sandbox, _server) = serve(&format!("unix_peers = [{peers}]"));
        let mut by_socket = Connection::over(UnixStream::connect(sandbox.path("s.sock")).unwrap());
        assert_eq!(
            by_socket.ask(&question("u", &FIELDS)).status,
            200,
            "{peers}"
        );
    }
    let (sandbox, server) = serve(&format!(
        "unix_peers = [\"{STRANGER}\", \"group:{STRANGER}\"]"
    ));
    for _ in 0..3 {
        let mut stream = UnixStream::connect(sandbox.path("s.sock")).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty());
    }
    server.signal("-TERM");
    let ended = server.ended();
    assert_eq!(
        ended.stderr.matches("has not its user").count(),
        1,
        "one line in a while: {}",
        ended.stderr
    );
}

#[test]
fn other_users_come_in_by_mode_group_and_peers() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    if let Some(folder) = closed_to_others(&sandbox.path("")) {
        skipped(&format!("other users can't get into {}", folder.display()));
        return;
    }
    let with = |lines: &str| {
        let (sandbox, server) = serve(lines);
        fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        (sandbox, server)
    };
    let is_ok = |answer: Option<String>| answer.is_some_and(|answer| answer.contains("200 OK"));

    let (sandbox, _server) = with(&format!("unix_group = \"{STRANGER}\""));
    assert_eq!(
        fs::metadata(sandbox.path("s.sock")).unwrap().gid(),
        STRANGER
    );
    assert!(is_ok(ask_as(&sandbox, STRANGER + 1, STRANGER)));
    assert_eq!(ask_as(&sandbox, STRANGER, STRANGER + 1), None);

    let (sandbox, _server) = with(&format!(
        "unix_mode = \"0666\"\nunix_peers = [\"{STRANGER}\", \"group:{STRANGER}\"]"
    ));
    assert!(is_ok(ask_as(&sandbox, STRANGER, STRANGER + 1)));
    assert!(is_ok(ask_as(&sandbox, STRANGER + 1, STRANGER)));
    assert_eq!(ask_as(&sandbox, STRANGER + 1, STRANGER + 1), None);
    assert_eq!(ask_as(&sandbox, 0, 0), None, "root is a user like others");
}

#[test]
fn other_machines_are_served_plain_only_where_that_is_allowed() {
    let sandbox = Sandbox::with_file();
    let serve = |lines: &str, args: &[&str]| {
        sandbox.write("sessile.toml", &format!("[server]\n{lines}\n"));
        let mut command = sandbox.command(&["serve"]);
        command.args(args).env("INTERNAL_API_KEY", KEY);
        command
    };
    let refused = |mut command: Command| Ended::from(command.output().unwrap()).failed(3);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let error = refused(serve("", &["--listen", address]));
        assert!(
            error.contains(&format!(
                "command line: server.listen: found \"{address}\", where"
            )) && error.contains("server.tls.cert")
                && error.contains("server.allow_plain = true"),
            "{error}"
        );
    }
    let error = refused(serve("admin_listen = \"0.0.0.0:0\"", &[]));
    assert!(
        error.contains("sessile.toml: server.admin_listen: found"),
        "{error}"
    );

    // A name is judged by what it stands for: the system's resolver takes 0 for 0.0.0.0.
    let error = refused(serve("", &["--listen", "0:0"]));
    assert!(
        error.contains(
            "command line: server.listen: found a name or a socket that stands for 0.0.0.0:"
        ),
        "{error}"
    );
    let error = refused(serve(
        "admin_listen = \"0:0\"",
        &["--listen", "127.0.0.1:0"],
    ));
    assert!(
        error.contains(
            "sessile.toml: server.admin_listen: found a name or a socket that stands for"
        ),
        "{error}"
    );
    assert_eq!(
        Server::start(serve("", &["--listen", "0x7f.1:0"]))
            .count("t", "u")
            .status,
        200
    );

    for (lines, args) in [
        ("allow_plain = true", ["--listen", "0.0.0.0:0"]),
        (
            "allow_plain = true\nadmin_listen = \"0.0.0.0:0\"",
            ["--listen", "127.0.0.1:0"],
        ),
    ] {
        let server = Server::start(serve(lines, &args));
        assert_eq!(server.count("t", "u").status, 200);
        server.signal("-TERM");
        let ended = server.ended();
        assert_eq!(
            ended
                .stderr
                .matches("serving without TLS to other machines")
                .count(),
            1,
            "{}",
            ended.stderr
        );
    }
    let server = Server::start(serve("allow_plain = true", &["--listen", "127.0.0.1:0"]));
    server.signal("-TERM");
    assert!(!server.ended().stderr.contains("without TLS"));
}
