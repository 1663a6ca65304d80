//! Others that answer the same question from the same file, and nginx, which answers without one: each installed where
//! it can be, and compared where its answers are right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{KEY, Server};
use crate::{Options, answers, say};

/// What is built and installed for them, beside the other things that cargo builds.
const WORKSHOP: &str = env!("CARGO_TARGET_TMPDIR");

/// Starts those that are asked for. One that can't be had, or that answers otherwise than ours at `address`, is left
/// out, and the reason is printed.
pub(crate) fn start(
    options: &Options,
    database: &Path,
    scratch: &Path,
    address: &str,
) -> Vec<(&'static str, Server)> {
    let mut servers = Vec::new();
    if options.nginx {
        servers.push(("nginx, constant answer", Server::nginx(scratch)));
    }
    let right =
        |server: Server| answers::compare(address, &server.address, options.rows).map(|()| server);
    if options.axum {
        servers.push(("axum + sqlx", axum(database).and_then(right)));
    }
    if options.fastify > 0 {
        let name = match options.fastify {
            1 => "fastify + better-sqlite3, one process",
            _ => "fastify + better-sqlite3, a cluster",
        };
        let server = fastify(database, options.fastify).and_then(right);
        servers.push((name, server));
    }
    let started = servers.into_iter().filter_map(|(name, server)| {
        server
            .inspect_err(|reason| say(&format!("without {name}: {reason}")))
            .ok()
            .map(|server| (name, server))
    });
    started.collect()
}

fn axum(database: &Path) -> Result<Server, String> {
    let target = Path::new(WORKSHOP).join("axum-sqlx");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    build
        .args(["build", "--release", "--locked", "--quiet"])
        .arg("--manifest-path")
        .arg(source("axum-sqlx").join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        // Our settings for SQLite (.cargo/config.toml) are not those of its users.
        .env("LIBSQLITE3_FLAGS", "");
    say("building axum + sqlx");
    run(build)?;
    let mut command = Command::new(target.join("release/axum-sqlx"));
    command
        .env("DATABASE", database)
        .env("INTERNAL_API_KEY", KEY);
    Server::try_start(command)
}

fn fastify(database: &Path, processes: usize) -> Result<Server, String> {
    let folder = Path::new(WORKSHOP).join("fastify");
    install(&folder)?;
    let mut command = Command::new("node");
    command
        .arg(folder.join("server.js"))
        .env("NODE_ENV", "production")
        .env("PROCESSES", processes.to_string())
        .env("DATABASE", database)
        .env("INTERNAL_API_KEY", KEY);
    Server::try_start(command)
}

/// Puts the server into `folder`, and beside it its packages, unless those that its lock names are there.
fn install(folder: &Path) -> Result<(), String> {
    let put = || {
        fs::create_dir_all(folder)?;
        for name in ["package.json", "package-lock.json", "server.js"] {
            fs::copy(source("fastify").join(name), folder.join(name))?;
        }
        fs::read(folder.join("package-lock.json"))
    };
    let lock = put().map_err(|error| format!("{}: {error}", folder.display()))?;
    let installed = folder.join("installed-lock.json");
    if fs::read(&installed).is_ok_and(|earlier| earlier == lock) {
        return Ok(());
    }
    // Where no binary of better-sqlite3 can be fetched, it is compiled: that takes python3, make, g++ and the headers
    // of node, which npm's `nodedir` names where they can't be fetched either.
    say("installing fastify + better-sqlite3");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"])
        .current_dir(folder);
    run(npm)?;
    fs::write(&installed, lock).map_err(|error| format!("{}: {error}", installed.display()))
}

fn source(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/bench")
        .join(peer)
}

/// Runs a command to its end. What it says is told only where it fails, the end of it.
fn run(mut command: Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let end = &lines[lines.len().saturating_sub(20)..];
    Err(format!("{program}: {}\n{}", output.status, end.join("\n")))
}
