//! API keys: where they come from, how often they may be used, what is counted of them, and that nobody sees them.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use sessile::time::{Span, Timestamp};

use crate::support::{Ended, KEY, Sandbox, Server, encode, question, request, skipped, wait_until};

const LIMITED: &str = "a-limited-key-of-32-characters-x";
const FREE: &str = "an-unlimited-key-of-32-character";
const TENANT: (&str, &str) = ("X-Tenant-ID", "t");

fn start(sandbox: &Sandbox) -> Server {
    Server::start(serve(sandbox))
}

fn serve(sandbox: &Sandbox) -> Command {
    sandbox.command(&["serve", "--listen", "127.0.0.1:0"])
}

fn ask(key: &str) -> Vec<u8> {
    question("u", &[("X-API-Key", key), TENANT])
}

/// A server with a key that may ask so many times a second, and one that may ask for ever.
fn limited(max_rate: u32) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_file();
    sandbox.write(
        "sessile.toml",
        &format!(
            "[[auth.keys]]\nname = \"limited\"\nkey = \"{LIMITED}\"\nmax_rate = {max_rate}\ntenants = [\"t\"]\n\
             [[auth.keys]]\nname = \"free\"\nkey = \"{FREE}\"\n"
        ),
    );
    let server = start(&sandbox);
    (sandbox, server)
}

/// The check stands behind the key and before the parameters, and what fails later has taken its turn all the same.
#[test]
fn a_key_over_its_rate_is_429() {
    let (_sandbox, server) = limited(1);
    let path = "/internal/session/sessions//active";
    let keyed = ("X-API-Key", LIMITED);
    let started = Instant::now();
    let first = server.ask(&request("GET", path, &[keyed]));
    assert_eq!(first.status, 400);
    let over = server.ask(&request("GET", path, &[keyed]));
    if started.elapsed() < Duration::from_secs(1) {
        assert_eq!(over.status, 429, "{over:?}");
        assert_eq!(over.field("retry-after"), Some("1"));
        let json = over.json();
        assert_eq!(json["type"], "/problems/too-many-requests");
        assert_eq!(json["title"], "Too Many Requests");
        assert_eq!(
            (json["code"].as_u64(), json["status"].as_u64()),
            (Some(30104290), Some(429))
        );
        assert_eq!(json["retry_after"], 1);
        assert_eq!(json["i18n_args"]["retry_after"], 1);
        let fields = [keyed, ("X-Tenant-ID", "other")];
        assert_eq!(
            server.ask(&question("u", &fields)).status,
            429,
            "before 403"
        );
    }
    let two = [keyed, ("X-API-Key", FREE)];
    assert_eq!(
        server.ask(&request("GET", path, &two)).status,
        401,
        "before 429"
    );
    assert_eq!(server.ask(&request("POST", path, &[keyed])).status, 405);
    // Where it is told to come back, it is let in.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(server.ask(&ask(LIMITED)).status, 200);
}

/// Sixteen connections, on all workers, ask as fast as they can, and four beside them with another key.
#[test]
fn a_runaway_caller_gets_its_rate_and_disturbs_nobody() {
    const RATE: u32 = 100;
    let (_sandbox, server) = limited(RATE);
    let (lasts, begin) = (Duration::from_secs(2), Barrier::new(20));
    let run = |key: &'static str| {
        let mut connection = server.connect();
        begin.wait();
        let started = Instant::now();
        let (mut passed, mut turned_away) = (0, 0);
        while started.elapsed() < lasts {
            match connection.ask(&ask(key)).status {
                200 => passed += 1,
                429 => turned_away += 1,
                other => panic!("{other}"),
            }
        }
        (passed, turned_away, started.elapsed())
    };
    let (limited, free): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let limited: Vec<_> = (0..16).map(|_| scope.spawn(|| run(LIMITED))).collect();
        let free: Vec<_> = (0..4).map(|_| scope.spawn(|| run(FREE))).collect();
        let results = |threads: Vec<thread::ScopedJoinHandle<'_, _>>| {
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        };
        (results(limited), results(free))
    });
    let passed: u32 = limited.iter().map(|(passed, ..)| passed).sum();
    let turned_away: u32 = limited.iter().map(|(_, turned_away, _)| turned_away).sum();
    let longest = limited.iter().map(|(.., elapsed)| *elapsed).max().unwrap();
    let allowed = RATE + (f64::from(RATE) * longest.as_secs_f64()) as u32;
    assert!(passed <= allowed, "{passed} passed where {allowed} may");
    // Nearly all of it was used: a request was always waiting.
    let least = RATE + (f64::from(RATE) * lasts.as_secs_f64() * 0.8) as u32;
    assert!(passed >= least, "{passed} passed where {least} might");
    assert!(turned_away > 0);
    assert!(
        free.iter()
            .all(|(passed, turned_away, _)| *passed > 0 && *turned_away == 0)
    );
}

/// At the very instant, without a reload, and not before it.
#[test]
fn a_key_ends_at_its_instant() {
    let sandbox = Sandbox::with_file();
    let end = Timestamp::now().saturating_add(Span::from_millis(3_000));
    sandbox.write(
        "sessile.toml",
        &format!("[[auth.keys]]\nname = \"ends\"\nkey = \"{KEY}\"\nnot_after = \"{end}\"\n"),
    );
    let server = start(&sandbox);
    let mut connection = server.connect();
    let mut answered = 0;
    loop {
        let before = Timestamp::now();
        let status = connection.ask(&ask(KEY)).status;
        match status {
            200 => assert!(before < end, "answered after {end}"),
            401 => assert!(Timestamp::now() >= end, "refused before {end}"),
            other => panic!("{other}"),
        }
        if status == 401 {
            break;
        }
        answered += 1;
    }
    assert!(
        answered > 0,
        "the server was started too late for this test"
    );
    let metrics = metrics(&server);
    assert!(
        metrics.contains("sessile_authentication_failures_total{reason=\"expired\"} 1\n"),
        "{metrics}"
    );
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert!(
        log.contains("this API key is about to expire") && log.contains("\"ends\""),
        "{log}"
    );
}

/// The warning comes fourteen days before.
#[test]
fn an_end_that_is_near_is_told() {
    let sandbox = Sandbox::with_file();
    let ends = [("near", 13), ("far", 15)].map(|(name, days)| {
        let end = Timestamp::now().saturating_add(Span::from_days(days));
        let digest = sessile::api::auth::Digest::of(name.as_bytes());
        format!("[[auth.keys]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nnot_after = \"{end}\"\n")
    });
    sandbox.write("sessile.toml", &ends.concat());
    let server = start(&sandbox);
    server.signal("-TERM");
    let log = server.ended().stderr;
    assert!(log.contains("about to expire"), "{log}");
    assert!(
        log.contains("\"near\"") && !log.contains("\"far\""),
        "{log}"
    );
}

fn metrics(server: &Server) -> String {
    server.ask(&request("GET", "/metrics", &[])).body
}

#[test]
fn uses_are_counted_by_key() {
    let sandbox = Sandbox::with_file();
    sandbox.write(
        "sessile.toml",
        &format!(
            "[[auth.keys]]\nname = \"a\\\"b\\\\c\"\nkey = \"{FREE}\"\nnot_after = 2099-01-01T00:00:00.5Z\n\
             [[auth.keys]]\nname = \"limited\"\nkey = \"{LIMITED}\"\nmax_rate = 1000\ntenants = [\"t\"]\n\
             [[auth.keys]]\nname = \"old\"\nkey = \"{KEY}\"\nnot_after = 2020-01-01T00:00:00Z\n"
        ),
    );
    let server = start(&sandbox);
    // One connection each, so that every worker has some.
    for _ in 0..20 {
        assert_eq!(server.ask(&ask(FREE)).status, 200);
        let secret = [("X-API-Key", LIMITED), ("X-Tenant-ID", "secret-tenant")];
        assert_eq!(server.ask(&question("secret-user", &secret)).status, 403);
    }
    assert_eq!(
        server
            .ask(&request(
                "HEAD",
                "/internal/session/sessions/u/active",
                &[("X-API-Key", FREE)]
            ))
            .status,
        400
    );
    for fields in [
        &[TENANT][..],
        &[TENANT, ("X-API-Key", "nobody's")],
        &[TENANT, ("X-API-Key", "nobody's")],
        &[TENANT, ("X-API-Key", FREE), ("X-API-Key", FREE)],
        &[TENANT, ("X-API-Key", KEY)],
    ] {
        assert_eq!(server.ask(&question("u", fields)).status, 401);
    }
    fs::remove_file(sandbox.database()).unwrap();
    assert_eq!(server.ask(&ask(FREE)).status, 500);

    let head = server.ask(&request("HEAD", "/metrics", &[]));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let newer = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let response = server.ask(&request("GET", "/metrics", &newer));
    assert_eq!(
        response.field("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(!response.body.contains("secret"), "{}", response.body);
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"(success_timestamp_seconds) \d+\.\d+", "$1 [now]");
    let ours = [
        "sessile_build",
        "sessile_auth",
        "sessile_api_key",
        "sessile_config",
        "EOF",
    ];
    let is_ours = |line: &&str| ours.iter().any(|name| line.contains(name));
    let lines: Vec<&str> = response.body.lines().filter(is_ours).collect();
    settings.bind(|| insta::assert_snapshot!(lines.join("\n")));
}

/// Metrics are for operators: with a listener of their own, callers don't see them. They are answered without a place
/// among the requests under way.
#[test]
fn metrics_are_on_the_operators_listener() {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", "[server]\nadmin_listen = \"127.0.0.1:0\"\n");
    let mut server = sandbox.serve(&[]);
    let admin = server.read_line();
    let admin = admin.strip_prefix("admin listening on http://").unwrap();
    assert_eq!(server.ask(&request("GET", "/metrics", &[])).status, 404);
    let stream = std::net::TcpStream::connect(admin).unwrap();
    let mut connection = crate::support::Connection::over(stream);
    assert_eq!(connection.ask(&request("GET", "/metrics", &[])).status, 200);
    assert_eq!(
        connection.ask(&request("POST", "/metrics", &[])).status,
        405
    );
}

#[test]
fn a_key_file_may_be_a_credential() {
    let sandbox = Sandbox::with_file();
    fs::create_dir(sandbox.path("credentials")).unwrap();
    sandbox.write("credentials/billing", &format!("{FREE}\n"));
    sandbox.write("billing", LIMITED);
    sandbox.write(
        "sessile.toml",
        "[[auth.keys]]\nname = \"billing\"\nkey_file = \"billing\"\n",
    );
    let with = |key_file: &str| {
        sandbox.write(
            "sessile.toml",
            &format!("[[auth.keys]]\nname = \"k\"\nkey_file = \"{key_file}\"\n"),
        );
        let mut command = serve(&sandbox);
        command.env("CREDENTIALS_DIRECTORY", sandbox.path("credentials"));
        command
    };
    let status = |command: Command, key: &str| Server::start(command).ask(&ask(key)).status;
    assert_eq!(status(with("billing"), FREE), 200, "the credential");
    assert_eq!(status(with("billing"), LIMITED), 401);
    assert_eq!(
        status(serve(&sandbox), FREE),
        401,
        "there are no credentials"
    );
    let absolute = sandbox.path("billing");
    assert_eq!(
        status(with(absolute.to_str().unwrap()), LIMITED),
        200,
        "an absolute path is itself"
    );
    sandbox.write("other", LIMITED);
    assert_eq!(
        status(with("other"), LIMITED),
        200,
        "a file where there is no such credential"
    );

    let error = Ended::from(with("neither").output().unwrap()).failed(3);
    for part in [
        "auth.keys[0].key_file: can't read \"neither\": No such file",
        "nor is there a credential of that name in",
    ] {
        assert!(error.contains(part), "{error}");
    }
    sandbox.write("credentials/empty", "");
    let error = Ended::from(with("empty").output().unwrap()).failed(3);
    assert!(
        error.contains("credentials/empty\": found an empty key"),
        "{error}"
    );
}

/// What has no end is not read to its end, and what nobody writes to is not waited for.
#[test]
fn a_key_file_is_a_file() {
    let sandbox = Sandbox::with_file();
    sandbox.pipe("pipe");
    for (path, found) in [
        (
            "pipe",
            "found a pipe or device in \"pipe\"; allowed: a file",
        ),
        (
            "/dev/zero",
            "found a pipe or device in \"/dev/zero\"; allowed: a file",
        ),
        (".", "found a directory in \".\"; allowed: a file"),
        (
            "/proc/kallsyms",
            "bytes in \"/proc/kallsyms\"; allowed: one key of up to 4096 bytes",
        ),
    ] {
        if !Path::new(path).exists() && path.starts_with("/proc") {
            continue;
        }
        sandbox.write(
            "sessile.toml",
            &format!("[[auth.keys]]\nname = \"k\"\nkey_file = \"{path}\"\n"),
        );
        let error = Ended::from(serve(&sandbox).output().unwrap()).failed(3);
        assert!(error.contains(found), "{path}: {error}");
    }
}

#[test]
fn config_shows_the_rest_where_a_key_can_not_be_read() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "sessile.toml",
        "[[auth.keys]]\nname = \"k\"\nkey_file = \"gone\"\nmax_rate = 50\n[log]\nlevel = \"warn\"\n",
    );
    let shown = sandbox.run(&["config"]);
    for line in [
        "auth.keys[0].max_rate = 50",
        "log.level = \"warn\"",
        "# 1 API keys: k",
    ] {
        assert!(shown.stdout.contains(line), "{shown:?}");
    }
    assert!(
        shown
            .failed(3)
            .contains("auth.keys[0].key_file: can't read \"gone\"")
    );
    let json = sandbox.run(&["config", "--json"]);
    assert!(json.stdout.ends_with("\"keys\":[\"k\"]}\n"), "{json:?}");
    json.failed(3);
}

#[test]
fn a_rate_is_a_whole_number() {
    let sandbox = Sandbox::new();
    for rate in ["0", "-1", "1.5", "1000001", "4294967297", "\"1\""] {
        sandbox.write(
            "sessile.toml",
            &format!("[[auth.keys]]\nname = \"k\"\nkey = \"{KEY}\"\nmax_rate = {rate}\n"),
        );
        let error = sandbox.run(&["config"]).failed(3);
        let allowed =
            format!("found {rate}; allowed: a whole number of requests a second from 1 to 1000000");
        assert!(error.contains(&allowed), "{error}");
    }
}

#[test]
fn a_variable_that_says_nothing_is_a_fault() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["config"]);
    command.env("SESSILE_", "1").env(
        "SESSILE_LOG__LEVEL",
        std::ffi::OsStr::from_bytes(b"inf\xff"),
    );
    let error = Ended::from(command.output().unwrap()).failed(3);
    assert!(
        error.contains("SESSILE_: names no key; allowed:"),
        "{error}"
    );
    assert!(
        error.contains("SESSILE_LOG__LEVEL: found a value that is not UTF-8"),
        "{error}"
    );
}

/// `text` in every form that it may show in: as it is, percent-encoded, and in Base64 wherever it begins.
fn forms(text: &str) -> Vec<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64 = |offset: usize| -> String {
        let padded = [&[0; 2][..offset], text.as_bytes()].concat();
        let digits = padded.chunks_exact(3).flat_map(|three| {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift) as usize & 63]))
        });
        digits.skip(if offset == 0 { 0 } else { 4 }).collect()
    };
    let hex = |byte: &u8| format!("{byte:02x}");
    vec![
        text.to_owned(),
        encode(text),
        base64(0),
        base64(1),
        base64(2),
        text.as_bytes().iter().map(hex).collect(),
        sessile::api::auth::Digest::of(text.as_bytes()).to_string(),
    ]
}

/// Everything that a run prints and logs at the loudest, with keys from all sources, good and bad ones, in every place
/// that a caller may put one, and with faults of the configuration beside them.
#[test]
fn nobody_sees_a_key() {
    let sandbox = Sandbox::with_file();
    let [clear, in_file, in_variable, digested, wrong, spoilt] = [
        "clear/key+of 32 characters, at=all",
        "file/key+of 32 characters, at=all!",
        "variable/key+of 32 characters, at=",
        "digested/key+of 32 characters, at=",
        "wrong/key+of 32 characters, at=all",
        "spoilt/key+of 32 characters,at=all\u{7}",
    ];
    sandbox.write("key", in_file);
    let digest = sessile::api::auth::Digest::of(digested.as_bytes());
    let keys = format!(
        "[[auth.keys]]\nname = \"clear\"\nkey = \"{clear}\"\n[[auth.keys]]\nname = \"file\"\nkey_file = \"key\"\nmax_rate = 1\n\
         [[auth.keys]]\nname = \"digest\"\nsha256 = \"{digest}\"\nnot_after = 2020-01-01T00:00:00Z\n"
    );
    sandbox.write("sessile.toml", &keys);
    let mut seen = String::new();
    let mut look = |what: Ended| seen.push_str(&format!("{}{}", what.stdout, what.stderr));
    let run = |args: &[&str]| -> Ended {
        let mut command = sandbox.command(args);
        command
            .env("INTERNAL_API_KEY", in_variable)
            .output()
            .unwrap()
            .into()
    };

    let mut command = serve(&sandbox);
    command
        .args(["--log-level", "trace"])
        .env("INTERNAL_API_KEY", in_variable);
    let server = Server::start(command);
    let mut answers = String::new();
    for key in [
        clear,
        in_file,
        in_variable,
        digested,
        wrong,
        &encode(clear),
        &forms(clear)[2],
    ] {
        for fields in [
            &[("X-API-Key", key), TENANT][..],
            &[("X-API-Key", key)],
            &[("X-API-Key", key), ("X-API-Key", wrong), TENANT],
            &[("Authorization", key), ("X-Other", key), TENANT],
            &[("X-API-Key", clear), ("X-Tenant-ID", key)],
            &[("X-API-Key", key), TENANT, ("traceparent", key)],
        ] {
            let response = server.ask(&question("u", fields));
            answers.push_str(&format!("{response:?}"));
        }
    }
    answers.push_str(&format!(
        "{:?}",
        server.ask(&request("GET", "/metrics", &[]))
    ));
    // A fault in each key, as it may happen to somebody who edits them.
    sandbox.write("key", spoilt);
    let faulty = keys
        .replace(
            &format!("key = \"{clear}\""),
            &format!("kee = \"{clear}\"\nkey = [\"{clear}\"]"),
        )
        .replace(&digest.to_string(), digested);
    let broken = keys.replace(&format!("\"{clear}\""), clear);
    for text in [keys.as_str(), &faulty, &broken] {
        sandbox.write("sessile.toml", text);
        server.signal("-HUP");
        wait_until("the fault was found", || {
            let metrics = server.ask(&request("GET", "/metrics", &[])).body;
            metrics.contains("sessile_config_last_reload_successful 0\n")
        });
        look(run(&["config"]));
        look(run(&["config", "--json"]));
        look(run(&["doctor", "--quick"]));
        look(run(&["serve", "--listen", "127.0.0.1:0"]));
        sandbox.write("key", in_file);
        sandbox.write("sessile.toml", &keys);
        look(run(&["config"]));
        look(run(&["doctor", "--quick"]));
        server.signal("-HUP");
        wait_until("the fault was mended", || {
            let metrics = server.ask(&request("GET", "/metrics", &[])).body;
            metrics.contains("sessile_config_last_reload_successful 1\n")
        });
        sandbox.write("key", spoilt);
    }
    server.signal("-TERM");
    let ended = server.ended();
    assert!(
        ended.stderr.contains("not reloaded") && ended.stderr.contains("answered"),
        "{ended:?}"
    );
    look(ended);
    for key in [clear, in_file, in_variable, digested, wrong, spoilt] {
        for form in forms(key) {
            for (what, text) in [("an answer", &answers), ("an output", &seen)] {
                let found = text
                    .find(&form)
                    .map(|at| &text[at.saturating_sub(200)..at + form.len()]);
                assert_eq!(found, None, "{what} shows {key} as {form}");
            }
        }
    }
}

/// A key that was read from a file is nowhere in the server's memory once it is digested.
#[test]
fn a_key_of_a_file_is_wiped() {
    let sandbox = Sandbox::with_file();
    let (key, name) = (
        "Kq3v9Zt5Xw2Lm8Rb7Yc4Ns6Hd1Gf0JpA",
        "a-name-to-show-that-the-search-finds",
    );
    sandbox.write("key", &format!("{key}\n"));
    sandbox.write(
        "sessile.toml",
        &format!("[[auth.keys]]\nname = \"{name}\"\nkey_file = \"key\"\n"),
    );
    let server = start(&sandbox);
    // The main thread has gone on, and a second reading leaves nothing behind either.
    let at = || {
        let metrics = metrics(&server);
        let line = metrics
            .lines()
            .find(|line| line.starts_with("sessile_config_last_reload_success_timestamp"));
        line.unwrap().to_owned()
    };
    let before = at();
    server.signal("-HUP");
    wait_until("the configuration was reloaded", || at() != before);

    let process = format!("/proc/{}", server.process_id());
    let Ok(mut memory) = fs::File::open(format!("{process}/mem")) else {
        return skipped("the memory of another process can't be read here");
    };
    let count = |memory: &mut fs::File, text: &str| {
        let maps = fs::read_to_string(format!("{process}/maps")).unwrap();
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        let found = writable.map(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let [start, end] =
                [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut bytes = Vec::new();
            let read = memory
                .seek(SeekFrom::Start(start))
                .and_then(|_| memory.take(end - start).read_to_end(&mut bytes));
            drop(read); // what can't be read of a mapping is left out
            bytes
                .windows(text.len())
                .filter(|window| *window == text.as_bytes())
                .count()
        });
        found.sum::<usize>()
    };
    assert!(
        count(&mut memory, name) > 0,
        "the search finds nothing at all"
    );
    assert_eq!(count(&mut memory, key), 0);
}
