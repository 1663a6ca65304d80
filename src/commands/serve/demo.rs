//! `sessile serve --demo`: something to ask, with nothing prepared.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;

use super::super::import::import;
use super::{flags, serve};
use crate::api::auth::{ApiKey, Digest, Keyring};
use crate::cli;
use crate::commands::{Done, out};
use crate::config::{Config, Flags};
use crate::store::writer::{Writer, create};
use crate::systemd::Sockets;
use crate::telemetry;
use crate::time::Timestamp;

const KEY: &str = "demo-key";

/// The port of a demonstration where it is free, which is also the default of `server.listen`.
const PORT: u16 = 11_004;

/// Alice has three sessions in tenant acme and one in globex; all of Bob's have ended; Carol's has just been idle
/// for too long, and Dave's ends five minutes from now.
const SESSIONS: &str = r#"
{"tenant_id":"acme","id":"s1","user_id":"alice","created_ago":"2d","last_active_ago":"1m","expires_in":"30d","device_type":"desktop"}
{"tenant_id":"acme","id":"s2","user_id":"alice","created_ago":"1h","last_active_ago":"5m","expires_in":"30d","idle_expires_in":"12h","device_type":"mobile"}
{"tenant_id":"acme","id":"s3","user_id":"alice","created_ago":"10m","expires_in":"1d","device_type":"tablet"}
{"tenant_id":"acme","id":"s4","user_id":"alice","created_ago":"40d","expires_in":"-10d","device_type":"desktop"}
{"tenant_id":"acme","id":"s5","user_id":"bob","created_ago":"3d","expires_in":"-1d"}
{"tenant_id":"acme","id":"s6","user_id":"bob","created_ago":"1h","expires_in":"30d","status":"revoked","revoke_reason":"logout"}
{"tenant_id":"acme","id":"s7","user_id":"carol","created_ago":"1h","expires_in":"30d","idle_expires_in":"-1s"}
{"tenant_id":"acme","id":"s8","user_id":"dave","created_ago":"1h","expires_in":"5m"}
{"tenant_id":"globex","id":"s1","user_id":"alice","created_ago":"1h","expires_in":"30d"}
"#;

pub(super) fn run(args: &cli::Serve) -> anyhow::Result<Done> {
    let folder = tempfile::Builder::new()
        .prefix("sessile-demo-")
        .tempdir()
        .context("can't make a folder for the demonstration")?;
    let database = folder.path().join("sessions.db");
    create(&database)?;
    import(
        &mut Writer::open(&database)?,
        SESSIONS.as_bytes(),
        Timestamp::now(),
    )?;

    let mut flags = Flags {
        database: Some(
            database
                .to_str()
                .context("the folder for temporary files has no UTF-8 name")?
                .to_owned(),
        ),
        mode: Some("development".to_owned()),
        ..flags(args)
    };
    if flags.listen.is_empty() {
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
        flags.listen.push(format!(
            "{}:{}",
            Ipv4Addr::LOCALHOST,
            if is_free { PORT } else { 0 }
        ));
    }
    let config = Config::from_flags(&flags)?;
    telemetry::init(config.log.level, config.log.format).context("can't start logging")?;
    let mut keyring = Keyring::default();
    keyring.add(ApiKey {
        name: "demo".to_owned(),
        digest: Digest::of(KEY.as_bytes()),
        tenants: None,
        not_after: None,
        max_rate: None,
    });
    serve(config, keyring, None, Sockets::default(), greet)
}

/// Prints lines to paste.
fn greet(url: &str) -> anyhow::Result<()> {
    let (unix, base) = match url.strip_prefix("unix:") {
        Some(path) => (format!("--unix-socket '{path}' "), "http://localhost"),
        None => (String::new(), url),
    };
    let curl = |user: &str, headers: &[&str]| {
        let headers: String = headers
            .iter()
            .map(|header| format!("-H '{header}' "))
            .collect();
        format!("curl -s {unix}{headers}{base}/internal/session/sessions/{user}/active")
    };
    let key = format!("X-API-Key: {KEY}");
    let browser = match unix.as_str() {
        "" => format!("The reference, with a form to ask by, is at {base}/docs.\n"),
        _ => String::new(), // no browser reaches a unix socket
    };
    let mut out = out();
    writeln!(
        out,
        "\nA demonstration in development mode, over a throw-away file. Ask it from another terminal:\n\n\
         # alice has 3 sessions\n{}\n\n\
         # bob has none\n{}\n\n\
         # 400: which tenant?\n{}\n\n\
         # 401: an unknown key\n{}\n\n\
         {browser}Ctrl-C stops it and removes the file.",
        curl("alice", &[&key, "X-Tenant-ID: acme"]),
        curl("bob", &[&key, "X-Tenant-ID: acme"]),
        curl("alice", &[&key]),
        curl("alice", &["X-API-Key: wrong", "X-Tenant-ID: acme"]),
    )?;
    out.flush()?;
    Ok(())
}
