//! `heartbeat`: how old the contents of a file are, wherever it was copied to.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::import_stopped::signal;
use crate::support::{Sandbox, Server, request, wait_until};

fn at(json: &Value, name: &str) -> jiff::Timestamp {
    json[name].as_str().unwrap().parse().unwrap()
}

fn stats(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.run(&["stats", "--json"]).ok()).unwrap()
}

/// The check `fresh` of `/readyz`, and its status.
fn fresh(server: &Server) -> (u16, Value) {
    let ready = server.ask(&request("GET", "/readyz", &[]));
    let checks = ready.json()["checks"].clone();
    let checks = checks.as_array().unwrap().iter();
    let fresh = checks.clone().find(|check| check["name"] == "fresh");
    (ready.status, fresh.unwrap().clone())
}

fn stated(server: &Server) -> Option<f64> {
    let text = server.ask(&request("GET", "/metrics", &[])).body;
    let line = text
        .lines()
        .find(|line| line.starts_with("sessile_database_heartbeat_timestamp_seconds "));
    line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[test]
fn it_is_written_once_or_again_and_again() {
    let sandbox = Sandbox::with_file();
    assert!(stats(&sandbox).get("heartbeat_at").is_none());
    assert!(!sandbox.run(&["stats"]).ok().contains("heartbeat"));

    let told = sandbox.run(&["heartbeat", "--json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    let first = at(&told, "heartbeat_at");
    assert_eq!(at(&stats(&sandbox), "heartbeat_at"), first);
    assert!(sandbox.run(&["stats"]).ok().contains("\nheartbeat     "));

    let mut beating = sandbox.command(&["heartbeat", "--every", "1s"]);
    let mut beating = beating.stdout(Stdio::piped()).spawn().unwrap();
    let newest = || at(&stats(&sandbox), "heartbeat_at");
    wait_until("it was written at once", || newest() > first);
    let second = newest();
    wait_until("it was written again", || newest() > second);
    signal(&beating, "-TERM");
    assert_eq!(beating.wait().unwrap().code(), Some(0));

    for bad in ["0s", "999ms", "-5s", "5"] {
        let said = sandbox.run(&["heartbeat", "--every", bad]).failed(2);
        assert!(said.contains("from \"1s\" on"), "{said}");
    }
}

/// What keeps it from being written is told once, and it goes on when that has passed.
#[test]
fn it_outlives_trouble() {
    let sandbox = Sandbox::new();
    let said = sandbox.run(&["heartbeat", "--every", "1s"]).failed(4);
    assert!(said.contains("there is no such file"), "{said}");

    sandbox.run(&["init"]).ok();
    let log = fs::File::create(sandbox.path("log")).unwrap();
    let mut beating = sandbox.command(&["heartbeat", "--every", "1s"]);
    let mut beating = beating.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let said = || fs::read_to_string(sandbox.path("log")).unwrap();
    wait_until("it is written", || {
        stats(&sandbox).get("heartbeat_at").is_some()
    });
    let (here, away) = (sandbox.database(), sandbox.path("away.db"));
    fs::rename(&here, &away).unwrap();
    wait_until("it is told", || said().contains("no heartbeat: "));
    fs::rename(&away, &here).unwrap();
    wait_until("it is written again", || {
        said().contains("heartbeats are written again")
    });
    beating.kill().unwrap();
    beating.wait().unwrap();
    assert_eq!(said().lines().count(), 2, "{}", said());
}

/// A copy is as old as its contents, whenever it was made; and once it has a heartbeat, nothing else makes it fresh.
#[test]
fn a_server_tells_how_old_its_data_is() {
    let writer = Sandbox::with_file();
    let reader = Sandbox::with_file();
    reader.write("sessile.toml", "[database]\nstale_after = \"2s\"\n");
    let server = reader.serve(&[]);
    let (status, check) = fresh(&server);
    assert_eq!((status, &check["ok"]), (200, &Value::Bool(true)));
    assert!(check["detail"].as_str().unwrap().starts_with("written "));
    assert_eq!(stated(&server), None);

    let follow = || {
        writer.run(&["backup", "--force", "copy.db"]).ok();
        let copy = reader.path("copy.db");
        fs::copy(writer.path("copy.db"), &copy).unwrap();
        fs::rename(copy, reader.database()).unwrap();
    };
    writer.run(&["heartbeat"]).ok();
    follow();
    let (status, check) = fresh(&server);
    assert_eq!((status, &check["ok"]), (200, &Value::Bool(true)));
    assert!(check["detail"].as_str().unwrap().starts_with("heartbeat "));
    let first = stated(&server).unwrap();
    let millis = at(&stats(&writer), "heartbeat_at").as_millisecond();
    assert_eq!((first * 1e3).round() as i64, millis);

    // The same contents again and again are no news.
    wait_until("the data is stale", || {
        follow();
        fresh(&server).0 == 503
    });
    let detail = fresh(&server).1["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(
        detail.starts_with("heartbeat ") && detail.ends_with(" ago, over database.stale_after"),
        "{detail}"
    );
    assert_eq!(stated(&server), Some(first));

    writer.run(&["heartbeat"]).ok();
    follow();
    assert_eq!(fresh(&server).0, 200);
    assert!(stated(&server).unwrap() > first);
}
