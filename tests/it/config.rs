//! Configuration: where it comes from, what wins, and what is said of every fault.

use crate::support::{Ended, KEY, Sandbox, Server, question};

fn config(sandbox: &Sandbox, variables: &[(&str, &str)]) -> Ended {
    sandbox
        .command(&["config"])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
        .into()
}

/// The line of `sessile config` for `key`.
#[track_caller]
fn line(printed: &str, key: &str) -> String {
    let found = printed
        .lines()
        .find(|line| line.starts_with(&format!("{key} = ")));
    let found = found.unwrap_or_else(|| panic!("no {key} in\n{printed}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_defaults_are_shown() {
    let printed = config(&Sandbox::new(), &[]).ok();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"pool_size = \d+ +", "pool_size = [workers + 2]  ");
    settings.bind(|| insta::assert_snapshot!(printed));
}

#[test]
fn programs_get_each_value_with_its_type() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "sessile.toml",
        "server.listen = [\"127.0.0.1:0\"]\n[[auth.keys]]\nname = \"billing\"\nnot_after = 2027-01-01T00:00:00Z\n\
         key = \"a-key-for-tests-of-32-characters\"\n",
    );
    let mut command = sandbox.command(&["config", "--json"]);
    command
        .env("SESSILE_DATABASE__POOL_SIZE", "7")
        .env("SESSILE_SERVICE__NAME", "007");
    let printed = Ended::from(command.output().unwrap()).ok();
    insta::assert_snapshot!(printed.replace("},{", "},\n{"));
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "sessile.toml",
        "[database]\npath = \"file.db\"\npool_size = 7\n[log]\nlevel = \"warn\"\n",
    );
    let printed = config(&sandbox, &[("SESSILE_DATABASE__PATH", "variable.db")]).ok();
    assert_eq!(
        line(&printed, "database.path"),
        "database.path = \"variable.db\" # SESSILE_DATABASE__PATH"
    );
    assert_eq!(
        line(&printed, "database.pool_size"),
        "database.pool_size = 7 # sessile.toml"
    );
    assert_eq!(
        line(&printed, "log.level"),
        "log.level = \"warn\" # sessile.toml"
    );
    assert_eq!(
        line(&printed, "log.format"),
        "log.format = \"auto\" # default"
    );
    let mut command = sandbox.command(&["config", "--database", "flag.db"]);
    let printed = Ended::from(
        command
            .env("SESSILE_DATABASE__PATH", "variable.db")
            .output()
            .unwrap(),
    )
    .ok();
    assert_eq!(
        line(&printed, "database.path"),
        "database.path = \"flag.db\" # command line"
    );
}

#[test]
fn the_file_is_the_named_one() {
    let sandbox = Sandbox::new();
    sandbox.write("a.toml", "service.name = \"a\"");
    sandbox.write("b.toml", "service.name = \"b\"");
    let by_variable = config(&sandbox, &[("SESSILE_CONFIG", "a.toml")]).ok();
    assert_eq!(
        line(&by_variable, "service.name"),
        "service.name = \"a\" # a.toml"
    );
    let mut command = sandbox.command(&["config", "--config", "b.toml"]);
    let by_flag = Ended::from(command.env("SESSILE_CONFIG", "a.toml").output().unwrap()).ok();
    assert_eq!(
        line(&by_flag, "service.name"),
        "service.name = \"b\" # b.toml"
    );
    let missing = sandbox.run(&["config", "--config", "c.toml"]).failed(3);
    assert!(
        missing.contains("can't read the configuration file \"c.toml\": No such file"),
        "{missing}"
    );
    let missing = config(&sandbox, &[("SESSILE_CONFIG", "c.toml")]).failed(3);
    assert!(
        missing.contains("SESSILE_CONFIG: can't read the configuration file \"c.toml\""),
        "{missing}"
    );
}

/// What figment's parser falls over, or goes down the stack for: a fuzzer found the first.
#[test]
fn a_value_that_can_not_be_parsed_is_a_fault() {
    let sandbox = Sandbox::new();
    for value in [
        "[\"\u{fffd}\\ud83d\"]".to_owned(),
        "\"é\\\\\"".to_owned(),
        "[".repeat(50_000),
    ] {
        let error = config(&sandbox, &[("SESSILE_SERVER__LISTEN", &value)]).failed(3);
        assert!(error.contains("SESSILE_SERVER__LISTEN: found "), "{error}");
    }
}

#[test]
fn every_fault_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "sessile.toml",
        r#"
        mod = "production"
        mode = "prod"
        [server]
        lisen = "127.0.0.1:1"
        listen = ["127.0.0.1:1", 3]
        admin_listen = "unix:relative"
        max_in_flight = 1.5
        drain_delay = "61s"
        [database]
        path = ""
        pool_size = 0
        integrity_check_interval = "0s"
        [auth]
        header = "X-Tenant-ID"
        [[auth.keys]]
        name = "one"
        key = "short-secret"
        sha256 = "not hex, also secret"
        tenants = []
        [[auth.keys]]
        nam = "two"
        key_file = "missing"
        [[auth.keys]]
        name = "one"
        key_file = "missing"
        not_after = "soon"
        [sessions]
        leeway = "61s"
        [sessions.policy]
        preset = "nist-800-63b-4"
        idle_timeout = 30
        [sessions.policy.tenants.Acme]
        max_age = "0s"
        [sessions.policy.tenants."no tenant"]
        preset = "none"
        [sessions.policy.tenants.empty]
        [problems]
        base_url = "https://example.com/problems"
        [service]
        name = "my \"service\""
        [policy]
        preset = "none"
        "#,
    );
    let faults = config(
        &sandbox,
        &[
            ("SESSILE_LOG__FORMAT", "xml"),
            ("SESSILE_DATABASE__POOLSIZE", "4"),
        ],
    )
    .failed(3);
    assert!(!faults.contains("secret"), "{faults}");
    insta::assert_snapshot!(faults);
}

#[test]
fn a_value_in_the_place_of_a_table_is_a_fault() {
    let sandbox = Sandbox::new();
    sandbox.write("sessile.toml", "log = \"debug\"\nauth = { keys = \"k\" }\n");
    let error = config(&sandbox, &[]).failed(3);
    assert!(
        error.contains("sessile.toml: log: found a string; allowed: a table"),
        "{error}"
    );
    assert!(
        error.contains("sessile.toml: auth.keys: found a string; allowed: tables [[auth.keys]]"),
        "{error}"
    );
}

#[test]
fn limits_have_bounds() {
    let sandbox = Sandbox::new();
    for (key, least, most) in [
        ("max_connections", "1", "1000000"),
        ("header_timeout", "\"100ms\"", "\"1h\""),
        ("idle_timeout", "\"100ms\"", "\"1h\""),
        ("write_timeout", "\"100ms\"", "\"1h\""),
        ("drain_timeout", "\"0s\"", "\"1h\""),
        ("max_target_bytes", "256", "16384"),
        ("max_header_fields", "8", "96"),
        ("max_header_bytes", "1024", "65536"),
    ] {
        for value in [least, most] {
            sandbox.write("sessile.toml", &format!("[server]\n{key} = {value}\n"));
            config(&sandbox, &[]).ok();
        }
        let beyond = match least.starts_with('"') {
            true => ["\"-1s\"", "\"3601s\"", "10", "\"soon\""],
            false => ["0", "1000001", "\"10\"", "8.5"],
        };
        for value in beyond {
            sandbox.write("sessile.toml", &format!("[server]\n{key} = {value}\n"));
            let error = config(&sandbox, &[]).failed(3);
            let allowed = format!("allowed: a span from {least} to {most}").replace(
                "a span",
                if least.starts_with('"') {
                    "a span"
                } else {
                    "a whole number"
                },
            );
            let key = format!("server.{key}: found {value}");
            assert!(error.contains(&key) && error.contains(&allowed), "{error}");
        }
    }
}

#[test]
fn a_broken_file_is_one_fault_with_its_line() {
    let sandbox = Sandbox::new();
    sandbox.write("sessile.toml", "[server]\nlisten = 127.0.0.1\n");
    let error = config(&sandbox, &[]).failed(3);
    assert!(
        error.contains("sessile.toml") && error.contains("line 2"),
        "{error}"
    );
}

#[test]
fn variables_keep_their_text() {
    let sandbox = Sandbox::new();
    let variables = [
        ("SESSILE_SERVICE__NAME", "0012"),
        ("SESSILE_DATABASE__PATH", "true"),
        ("SESSILE_SERVER__LISTEN", "[127.0.0.1:1, unix:/run/x.sock]"),
        ("SESSILE_SERVER__ADMIN_LISTEN", "[::1]:9"),
        ("SESSILE_DATABASE__POOL_SIZE", "3"),
        ("SESSILE_SESSIONS__POLICY__MAX_AGE", "12h"),
    ];
    let printed = config(&sandbox, &variables).ok();
    assert_eq!(
        line(&printed, "service.name"),
        "service.name = \"0012\" # SESSILE_SERVICE__NAME"
    );
    assert!(line(&printed, "database.path").starts_with("database.path = \"true\""));
    assert!(line(&printed, "database.pool_size").starts_with("database.pool_size = "));
    assert!(line(&printed, "server.admin_listen").starts_with("server.admin_listen = \"[::1]:9\""));
    assert!(
        line(&printed, "sessions.policy.max_age").starts_with("sessions.policy.max_age = \"12h\"")
    );
    let tenant = config(
        &sandbox,
        &[("SESSILE_SESSIONS__POLICY__TENANTS__ACME__MAX_AGE", "12h")],
    )
    .failed(3);
    assert!(tenant.contains("would lose its capitals"), "{tenant}");
}

#[test]
fn no_secret_is_ever_shown() {
    let sandbox = Sandbox::new();
    let secret = "a-secret-that-nobody-may-ever-see";
    sandbox.write("key", &format!("{}\n", secret.replace("ever", "once")));
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let keys = format!(
        "[[auth.keys]]\nname = \"a\"\nkey = \"{secret}\"\n[[auth.keys]]\nname = \"b\"\nkey_file = \"key\"\n\
         [[auth.keys]]\nname = \"c\"\nsha256 = \"{digest}\"\nnot_after = 2020-01-01T00:00:00Z\n",
    );
    sandbox.write("sessile.toml", &keys);
    let printed = config(&sandbox, &[("INTERNAL_API_KEY", KEY)]).ok();
    assert!(
        printed.contains("4 API keys: INTERNAL_API_KEY, a, b, c"),
        "{printed}"
    );
    for secret in [secret, "once", digest, KEY] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn a_secret_in_a_list_or_in_a_broken_line_is_not_shown_either() {
    let sandbox = Sandbox::new();
    let list = format!("[{{name=\"a\",key=\"{KEY}\"}}]");
    let printed = config(&sandbox, &[("SESSILE_AUTH__KEYS", &list)]).ok();
    assert!(
        printed.contains("auth.keys[0].name = \"a\"") && !printed.contains(KEY),
        "{printed}"
    );
    let bad = format!("[{{name=\"a\",sha256=\"{KEY}\"}}]");
    let error = config(&sandbox, &[("SESSILE_AUTH__KEYS", &bad)]).failed(3);
    assert!(!error.contains(KEY), "{error}");
    sandbox.write(
        "sessile.toml",
        &format!("[[auth.keys]]\nname = \"a\"\nkey = {KEY}\n"),
    );
    let error = config(&sandbox, &[]).failed(3);
    assert!(!error.contains(KEY) && error.contains("line 3"), "{error}");
}

#[test]
fn a_file_that_can_not_be_looked_at_is_not_passed_over() {
    let sandbox = Sandbox::new();
    std::fs::remove_file(sandbox.path("sessile.toml")).unwrap();
    std::fs::create_dir(sandbox.path("sessile.toml")).unwrap();
    let error = config(&sandbox, &[]).failed(3);
    assert!(
        error.contains("can't read the configuration file \"sessile.toml\": it is a directory"),
        "{error}"
    );
}

/// What is said of a key that `keys` gives, or of the variable.
fn key_fault(keys: &str, variable: Option<&str>) -> String {
    let sandbox = Sandbox::with_file();
    sandbox.write("sessile.toml", keys);
    sandbox.write("empty", "");
    sandbox.write("newline", "\n");
    sandbox.write("short", "0123456789012345678901234567890\n");
    sandbox.write("two-newlines", "01234567890123456789012345678901\n\n");
    sandbox.write("long", &"x".repeat(5000));
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    if let Some(variable) = variable {
        command.env("INTERNAL_API_KEY", variable);
    }
    Ended::from(command.output().unwrap()).failed(3)
}

#[test]
fn a_key_that_can_not_serve_is_a_fault() {
    for (file, complaint) in [
        ("empty", "found an empty key"),
        ("newline", "found an empty key"),
        ("short", "found a key of 31 characters"),
        ("two-newlines", "found a key with a control character"),
        ("long", "found 5000 bytes"),
        ("missing", "No such file"),
    ] {
        let error = key_fault(
            &format!("[[auth.keys]]\nname = \"k\"\nkey_file = \"{file}\"\n"),
            None,
        );
        assert!(
            error.contains(complaint) && error.contains("auth.keys[0].key_file"),
            "{error}"
        );
    }
    for (variable, complaint) in [
        ("", "INTERNAL_API_KEY: found an empty key"),
        (
            "0123456789012345678901234567890",
            "INTERNAL_API_KEY: found a key of 31 characters",
        ),
        (
            " 1234567890123456789012345678901",
            "INTERNAL_API_KEY: found a key with a blank at its end",
        ),
    ] {
        let error = key_fault("", Some(variable));
        assert!(error.contains(complaint), "{error}");
    }
    let twice = format!("[[auth.keys]]\nname = \"k\"\nkey = \"{KEY}\"\n");
    let error = key_fault(&twice, Some(KEY));
    assert!(
        error.contains("found the same key as that of \"k\""),
        "{error}"
    );
}

#[test]
fn development_mode_stays_at_home() {
    let sandbox = Sandbox::with_file();
    for listen in ["0.0.0.0:0", "[::]:0", "example.com:0"] {
        let error = sandbox
            .run(&["serve", "--mode", "development", "--listen", listen])
            .failed(3);
        assert!(
            error.contains("allowed in development mode: loopback addresses and unix sockets"),
            "{error}"
        );
    }
    let short = [
        ("INTERNAL_API_KEY", "short"),
        ("SESSILE_MODE", "development"),
    ];
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.envs(short);
    let server = Server::start(command);
    assert_eq!(
        server
            .ask(&question(
                "u",
                &[("X-API-Key", "short"), ("X-Tenant-ID", "t")]
            ))
            .status,
        200
    );
}

#[test]
fn a_key_file_loses_one_newline() {
    let sandbox = Sandbox::with_file();
    sandbox.write("key", &format!("{KEY}\n"));
    sandbox.write(
        "sessile.toml",
        "[[auth.keys]]\nname = \"k\"\nkey_file = \"key\"\n",
    );
    let server = Server::start(sandbox.command(&["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(server.count("t", "u").status, 200);
}

#[test]
fn presets_are_those_of_nist() {
    let sandbox = Sandbox::with_file();
    sandbox.import(concat!(
        r#"{"tenant_id":"t","id":"1","user_id":"u","created_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z"}"#,
        "\n",
        r#"{"tenant_id":"Exempt","id":"1","user_id":"u","created_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z"}"#,
    ));
    for (policy, lasts) in [
        ("preset = \"nist-800-63b-3-aal1\"", "2026-01-31T00:00:00Z"),
        ("preset = \"nist-800-63b-3-aal2\"", "2026-01-01T00:30:00Z"),
        ("preset = \"nist-800-63b-3-aal3\"", "2026-01-01T00:15:00Z"),
        ("preset = \"nist-800-63b-4-aal1\"", "2026-01-31T00:00:00Z"),
        ("preset = \"nist-800-63b-4-aal2\"", "2026-01-01T01:00:00Z"),
        ("preset = \"nist-800-63b-4-aal3\"", "2026-01-01T00:15:00Z"),
        (
            "preset = \"nist-800-63b-3-aal2\"\nidle_timeout = \"30d\"",
            "2026-01-01T12:00:00Z",
        ),
        (
            "preset = \"nist-800-63b-4-aal2\"\nidle_timeout = \"30d\"",
            "2026-01-02T00:00:00Z",
        ),
        (
            "preset = \"nist-800-63b-4-aal1\"\nmax_age = \"1d12h\"",
            "2026-01-02T12:00:00Z",
        ),
        ("max_age = \"1h\"", "2026-01-01T01:00:00Z"),
        ("preset = \"none\"", "2027-01-01T00:00:00Z"),
    ] {
        let exempt = "[sessions.policy.tenants.Exempt]\npreset = \"none\"\n";
        for (leeway, extra) in [("0s", 0), ("60s", 60_000)] {
            let text =
                format!("[sessions]\nleeway = \"{leeway}\"\n[sessions.policy]\n{policy}\n{exempt}");
            sandbox.write("sessile.toml", &text);
            let end = sessile::time::Timestamp::parse_rfc3339(lasts)
                .unwrap()
                .as_millis()
                + extra;
            for (at, count) in [(end - 1, 1), (end, 0)] {
                let at = sessile::time::Timestamp::from_millis(at).to_string();
                let check = |tenant| {
                    sandbox
                        .run(&["check", "--json", "--tenant", tenant, "u", "--at", &at])
                        .stdout
                };
                assert!(
                    check("t").ends_with(&format!(":{count}}}\n")),
                    "{policy} at {at}"
                );
                if lasts.starts_with("2026") {
                    assert!(check("Exempt").ends_with(":1}\n"), "{policy} at {at}");
                }
            }
        }
    }
}
