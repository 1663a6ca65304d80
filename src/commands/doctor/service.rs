//! What `serve` needs beside the file: its configuration, its keys, its addresses, and writers that do no harm.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::report::{Report, quoted};
use crate::config::{Config, Mode, tls_weaknesses};
use crate::server::{Address, shown_by};
use crate::store::backup::folder;
use crate::time::{Span, Timestamp};

/// How long before its end the end of a key or a certificate is told.
const SOON: Span = Span::from_days(30);

/// How long a listener has to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first SQLite without a fault by which a checkpoint beside other writers can damage the file.
const SOUND_SQLITE: [u32; 3] = [3, 51, 3];

pub(super) fn examine(report: &mut Report, config: &Config) {
    let file = match &config.file {
        Some(file) => format!("{}, without a fault", file.display()),
        None => "no file, so defaults, variables and flags".to_owned(),
    };
    report.ok("configuration", file);
    if config.mode == Mode::Development {
        report.warning(
            "mode",
            "development: callers may pin the clock, and keys may be short".to_owned(),
            Some("sessile serve --mode production".to_owned()),
        );
    }
    keys(report, config, Timestamp::now());
    let speaks = tls(report, config, Timestamp::now());
    for address in config
        .server
        .listening
        .listen
        .iter()
        .chain(&config.server.listening.admin_listen)
    {
        match address {
            Address::Tcp { host, port } => tcp(report, address, (host, *port), &speaks),
            Address::Unix(path) => unix(report, path),
        }
    }
    sqlite3(report);
}

fn keys(report: &mut Report, config: &Config, now: Timestamp) {
    const NAME: &str = "keys";
    let new = |name: &str| Some(format!("sessile key new {}", quoted(Path::new(name))));
    let keyring = match config.keyring() {
        Ok(keyring) => keyring,
        Err(faults) => {
            for fault in faults.0 {
                report.fault(NAME, fault.to_string(), new("NAME"));
            }
            return;
        }
    };
    if keyring.is_empty() {
        report.fault(NAME, "no API key is configured".to_owned(), new("NAME"));
        return;
    }
    let mut keys: Vec<_> = keyring.iter().collect();
    keys.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    for key in &keys {
        let Some(end) = key.not_after else { continue };
        if key.is_expired_at(now) {
            let found = format!("{} expired at {end} and is refused", key.name);
            report.warning(NAME, found, new(&key.name));
        } else if key.is_expired_at(now.saturating_add(SOON)) {
            let found = format!("{} expires at {end}", key.name);
            report.warning(NAME, found, new(&key.name));
        }
    }
    if keys.iter().all(|key| key.is_expired_at(now)) {
        report.fault(NAME, "all keys have expired".to_owned(), new("NAME"));
    }
    for weakness in config.key_weaknesses() {
        let mend = match &weakness.readable {
            Some(file) => Some(format!("chmod o-rwx {}", quoted(file))),
            None => new(&weakness.key),
        };
        report.warning(NAME, format!("{}: {}", weakness.key, weakness.found), mend);
    }
    if !report.has_trouble(NAME) {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        report.ok(NAME, names.join(", "));
    }
}

/// What is expected of a TCP address in use.
enum Speaks {
    Plain,
    /// TLS, with this certificate where it could be read.
    Tls(Option<Vec<u8>>),
}

fn tls(report: &mut Report, config: &Config, now: Timestamp) -> Speaks {
    const NAME: &str = "tls";
    let tls = match config.tls() {
        Ok(None) => return Speaks::Plain,
        Ok(Some(tls)) => tls,
        Err(faults) => {
            for fault in faults.0 {
                report.fault(NAME, fault.to_string(), None);
            }
            return Speaks::Tls(None);
        }
    };
    for weakness in tls_weaknesses(&tls, now) {
        let mend = weakness
            .readable
            .map(|file| format!("chmod o-rwx {}", quoted(&file)));
        report.warning(NAME, format!("{}: {}", weakness.key, weakness.found), mend);
    }
    let until = tls.validity().map(|validity| validity.until);
    match until {
        Some(until) if now <= until && now.saturating_add(SOON) > until => {
            report.warning(NAME, format!("the certificate expires at {until}"), None);
        }
        Some(until) if !report.has_trouble(NAME) => {
            report.ok(NAME, format!("the certificate holds until {until}"));
        }
        _ => {}
    }
    Speaks::Tls(Some(tls.certificate()))
}

fn tcp(report: &mut Report, address: &Address, (host, port): (&str, u16), speaks: &Speaks) {
    let target = (host.trim_matches(['[', ']']), port);
    let error = match TcpListener::bind(target) {
        Ok(_) => return report.ok("address", format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let connected = TcpStream::connect(target).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(stream)
            });
            let who = Some(format!("ss -ltnp 'sport = :{port}'"));
            match speaks {
                Speaks::Plain => in_use(report, address, connected.and_then(is_sessile), who),
                Speaks::Tls(expected) => {
                    let shown = connected.and_then(|mut stream| shown_by(&mut stream));
                    in_use_with_tls(report, address, shown, expected.as_deref(), who);
                }
            }
        }
        ErrorKind::PermissionDenied => {
            let found = format!("{address}: the user who asks may not listen there ({error})");
            report.warning("address", found, None);
        }
        _ => {
            let found = format!("{address}: {error}");
            report.fault("address", found, Some("ip address".to_owned()));
        }
    }
}

fn unix(report: &mut Report, path: &Path) {
    let address = Address::Unix(path.to_owned());
    let list = Some(format!("ls -l {}", quoted(path)));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && folder(path).is_dir() => {
            report.ok("address", format!("{address} is free"));
        }
        Err(error) => {
            let mend = format!("mkdir -p {}", quoted(folder(path)));
            report.fault("address", format!("{address}: {error}"), Some(mend));
        }
        Ok(found) if !found.file_type().is_socket() => {
            let found = format!("{address}: a file that is no socket is in its place");
            report.fault("address", found, list);
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                report.ok(
                    "address",
                    format!("{address} is free: nobody listens there any more"),
                );
            }
            Err(error) => report.warning("address", format!("{address}: {error}"), list),
            Ok(stream) => {
                let patient = stream
                    .set_read_timeout(Some(PATIENCE))
                    .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
                let who = Some(format!("ss -lxp 'src = {}'", quoted(path)));
                in_use(
                    report,
                    &address,
                    patient.and_then(|()| is_sessile(stream)),
                    who,
                );
            }
        },
    }
}

fn in_use(report: &mut Report, address: &Address, sessile: io::Result<bool>, who: Option<String>) {
    match sessile {
        Ok(true) => report.ok("address", format!("a sessile answers at {address}")),
        Ok(false) | Err(_) => report.fault(
            "address",
            format!("another program listens at {address}"),
            who,
        ),
    }
}

/// With TLS a listener shows who it is before it is asked anything.
fn in_use_with_tls(
    report: &mut Report,
    address: &Address,
    shown: io::Result<Vec<u8>>,
    expected: Option<&[u8]>,
    who: Option<String>,
) {
    match (shown, expected) {
        (Ok(shown), Some(expected)) if shown == expected => report.ok(
            "address",
            format!("a server with this certificate answers at {address}"),
        ),
        (Ok(_), Some(_)) => report.warning(
            "address",
            format!(
                "{address}: a server with another certificate answers there; if it is this one, it has not read new files yet (SIGHUP)"
            ),
            who,
        ),
        (Ok(_), None) => report.ok("address", format!("a server with TLS answers at {address}")),
        (Err(_), _) => report.fault(
            "address",
            format!("another program listens at {address}"),
            who,
        ),
    }
}

/// Whether the listener answers as this program does on every path, be it health or a Problem.
fn is_sessile(mut stream: impl Read + Write) -> io::Result<bool> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    Ok(answer.contains("\r\nx-request-id: req_"))
}

/// Operators and login systems write with the stock tool or its library, which are usually of one age.
fn sqlite3(report: &mut Report) {
    let Some(program) = on_path("sqlite3") else {
        return;
    };
    let Ok(output) = Command::new(&program).arg("--version").output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().next().unwrap_or_default();
    let numbers: Vec<u32> = version
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect();
    let program = program.display();
    if numbers.is_empty() || numbers.as_slice() >= &SOUND_SQLITE {
        report.ok("sqlite3", format!("{program} is {version}"));
    } else {
        let found = format!(
            "{program} is {version}; before 3.51.3 a checkpoint beside other writers can damage the file (WAL-reset bug)"
        );
        report.warning("sqlite3", found, None);
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
