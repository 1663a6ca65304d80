//! The examples of the README: they stand there as they are run here.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Ended, KEY, Sandbox, skipped};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples")
}

/// A program of the machine's with these arguments; `None`, with a printed reason, where it can't be had.
fn program(name: &str, probe: &[&str]) -> Option<Command> {
    let found = Command::new(name).args(probe).stdin(Stdio::null()).output();
    match found {
        Ok(output) if output.status.success() => Some(Command::new(name)),
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr);
            skipped(&format!("{name} {probe:?}: {}", reason.trim()));
            None
        }
        Err(error) => {
            skipped(&format!("{name} can't be run here: {error}"));
            None
        }
    }
}

#[test]
fn the_readme_quotes_each() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mark = format!("<!-- tests/examples/{name} -->\n\n```");
        let (_, quote) = readme
            .split_once(&mark)
            .unwrap_or_else(|| panic!("README.md does not quote {name}"));
        let (_, quote) = quote.split_once('\n').unwrap();
        let quote = quote.split_once("```\n").unwrap().0;
        assert!(quote == text, "README.md quotes {name} as it is not");
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn the_kit_in_python() {
    let Some(mut python) = program("python3", &["-c", "import http.client"]) else {
        return;
    };
    let ended: Ended = python
        .arg(folder().join("kit.py"))
        .env("SESSILE", env!("CARGO_BIN_EXE_sessile"))
        .output()
        .unwrap()
        .into();
    assert_eq!(ended.ok(), "2 passed\n");
}

#[test]
fn the_kit_in_node() {
    let Some(mut node) = program("node", &["-e", "fetch"]) else {
        return;
    };
    let ended: Ended = node
        .arg("--test")
        .arg(folder().join("kit.test.mjs"))
        .env("SESSILE", env!("CARGO_BIN_EXE_sessile"))
        .output()
        .unwrap()
        .into();
    let report = ended.ok();
    assert!(
        report.contains("pass 2") && report.contains("fail 0"),
        "{report}"
    );
}

/// Each client against a server that answers, one that refuses it, one that is too busy, and none at all.
#[track_caller]
fn is_a_client(client: impl Fn() -> Command) {
    let sandbox = Sandbox::with_file();
    sandbox.import(r#"{"tenant_id":"t","id":"s1","user_id":"a/b é","expires_in":"1h"}"#);
    sandbox.write(
        "sessile.toml",
        "[[auth.keys]]\nname = \"slow\"\nkey = \"a-slow-key-for-tests-of-32-chars\"\nmax_rate = 1\n",
    );
    let server = sandbox.serve(&[]);
    let url = format!("http://{}", server.address);
    let ask = |url: &str, key: &str, user: &str| {
        let mut command = client();
        command.args(["t", user]);
        command.env("SESSILE_URL", url).env("SESSILE_KEY", key);
        command.output().unwrap().status.code()
    };
    assert_eq!(ask(&url, KEY, "a/b é"), Some(0));
    assert_eq!(ask(&url, KEY, "nobody"), Some(1));
    assert_eq!(ask(&url, "wrong", "a/b é"), Some(2));
    // Over its rate a client waits and asks again, and then has its answer.
    for _ in 0..3 {
        assert_eq!(
            ask(&url, "a-slow-key-for-tests-of-32-chars", "nobody"),
            Some(1)
        );
    }
    let metrics = server.ask(&crate::support::request("GET", "/metrics", &[]));
    let limited = "sessile_api_key_rate_limited_total{key=\"slow\"} ";
    let limited = metrics.body.split_once(limited).unwrap().1;
    assert!(!limited.starts_with('0'), "nobody had to wait");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    assert_eq!(ask(&format!("http://{address}"), KEY, "nobody"), Some(2));
}

#[test]
fn the_client_in_shell() {
    if program("curl", &["--version"]).is_some() {
        is_a_client(|| Command::new(folder().join("client.sh")));
    }
}

#[test]
fn the_client_in_node() {
    if program("node", &["-e", "fetch"]).is_some() {
        is_a_client(|| {
            let mut node = Command::new("node");
            node.arg(folder().join("client.mjs"));
            node
        });
    }
}

#[test]
fn the_client_in_python() {
    if program("python3", &["-c", "import httpx"]).is_some() {
        is_a_client(|| {
            let mut python = Command::new("python3");
            python.arg(folder().join("client.py"));
            python
        });
    }
}
