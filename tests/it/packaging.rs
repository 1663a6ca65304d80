//! What the package installs beside the program: units that systemd takes and finds well closed, and a configuration
//! in which whatever is commented out is allowed. The package itself is tried by `tests/systemd/run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Sandbox, skipped};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The services that reach a replica: without a network where it is a folder.
const REPLICATING: [&str; 3] = [
    "sessile-follow.service",
    "sessile-litestream.service",
    "sessile-replica-check.service",
];

/// The units as they are installed, in a folder of the sandbox, but with this program. Those in its folder `handed` have
/// the drop-ins that are the operator's choice.
fn units(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path("units");
    let handed = folder.join("handed");
    let (systemd, litestream) = (packaging().join("systemd"), packaging().join("litestream"));
    let put = |from: &Path, to: PathBuf| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let unit = fs::read_to_string(from)
            .unwrap()
            .replace("/usr/bin/sessile", env!("CARGO_BIN_EXE_sessile"))
            .replace("/usr/lib/sessile", litestream.to_str().unwrap());
        fs::write(to, unit).unwrap();
    };
    for source in [&systemd, &litestream] {
        for entry in fs::read_dir(source).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if [".service", ".socket", ".timer"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                put(&path, folder.join(name));
                put(&path, handed.join(name));
            }
        }
    }
    for folder in [&folder, &handed] {
        put(
            &systemd.join("task.conf"),
            folder.join("sessile-.service.d/task.conf"),
        );
    }
    for (from, name) in [(&systemd, "socket.conf"), (&litestream, "read-node.conf")] {
        put(
            &from.join(name),
            handed.join("sessile.service.d").join(name),
        );
    }
    for unit in REPLICATING {
        put(
            &litestream.join("directory.conf"),
            handed.join(format!("{unit}.d/directory.conf")),
        );
    }
    folder
}

/// Runs `systemd-analyze` over units of a folder; `None`, with a printed reason, where there is none.
fn analyze(folder: &Path, args: &[&str], names: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new("systemd-analyze");
    command
        .args(args)
        .args(names.iter().map(|name| folder.join(name)))
        // The empty place at the end is that of the system's own units.
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            skipped(&format!("systemd-analyze can't be run here: {error}"));
            return None;
        }
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some((output.status.success(), said))
}

const UNITS: [&str; 12] = [
    "sessile.service",
    "sessile.socket",
    "sessile-backup.service",
    "sessile-backup.timer",
    "sessile-follow.service",
    "sessile-follow.timer",
    "sessile-heartbeat.service",
    "sessile-litestream.service",
    "sessile-purge.service",
    "sessile-purge.timer",
    "sessile-replica-check.service",
    "sessile-replica-check.timer",
];

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let sandbox = Sandbox::new();
    let folder = units(&sandbox);
    for folder in [folder.clone(), folder.join("handed")] {
        let Some((good, said)) = analyze(&folder, &["verify", "--man=no"], &UNITS) else {
            return;
        };
        // What it says of other units is this machine's business.
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("sessile"))
            .collect();
        assert!(good && ours.is_empty(), "{said}");
    }
}

#[test]
fn the_units_expose_little() {
    let sandbox = Sandbox::new();
    let folder = units(&sandbox);
    let handed = folder.join("handed");
    let closed = [
        "sessile-backup.service",
        "sessile-heartbeat.service",
        "sessile-purge.service",
    ];
    let rated = [
        (&folder, "sessile.service", "12"),
        (&handed, "sessile.service", "5"),
    ]
    .into_iter()
    .chain(closed.map(|unit| (&folder, unit, "5")))
    .chain(REPLICATING.map(|unit| (&folder, unit, "12")))
    .chain(REPLICATING.map(|unit| (&handed, unit, "5")));
    for (folder, unit, tenths) in rated {
        let threshold = format!("--threshold={tenths}");
        let args = ["security", "--offline=true", "--no-pager", &threshold];
        let Some((good, said)) = analyze(folder, &args, &[unit]) else {
            return;
        };
        assert!(good, "{said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

#[test]
fn what_is_packaged_of_litestream_is_all_of_it() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    let manifest = manifest.unwrap();
    for entry in fs::read_dir(packaging().join("litestream")).unwrap() {
        let path = entry.unwrap().path();
        let name = match path.extension().and_then(|end| end.to_str()) {
            Some(end @ ("service" | "timer" | "conf")) => format!("*.{end}"),
            _ => path.file_name().unwrap().to_str().unwrap().to_owned(),
        };
        let asset = format!("[\"packaging/litestream/{name}\", ");
        assert!(manifest.contains(&asset), "{asset}");
    }
}

#[test]
fn litestream_knows_each_setting_of_its_configuration_in_each_alternative() {
    let Some(litestream) = litestream() else {
        return;
    };
    let program = fs::read(&litestream).unwrap();
    let program = String::from_utf8_lossy(&program);
    let sandbox = Sandbox::new();
    let installed = fs::read_to_string(packaging().join("litestream/litestream.yml")).unwrap();
    // A setting is commented out without a blank, or with two where it is a part of one; words are with one.
    let all: Vec<String> = installed
        .lines()
        .filter_map(|line| match line.split_once('#') {
            Some((_, words))
                if words.is_empty() || words.starts_with(' ') && !words.starts_with("  ") =>
            {
                None
            }
            Some((indent, setting)) => Some(format!("{indent}{setting}")),
            None => Some(line.to_owned()),
        })
        .collect();
    for line in &all {
        if let Some((key, _)) = line.trim_start_matches([' ', '-']).split_once(':') {
            // It passes over what it doesn't know.
            assert!(program.contains(&format!("yaml:\"{key}\"")), "{line}");
        }
    }
    let all = all.join("\n");
    let mut parts = all.split("- type: ");
    let head = parts.next().unwrap();
    let mut kinds = Vec::new();
    for replica in parts {
        let config = sandbox.write("litestream.yml", &format!("{head}- type: {replica}"));
        let output = Command::new(&litestream)
            .args(["databases", "-config", config.to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let kind = replica.lines().next().unwrap();
        let listed = said.lines().nth(1).unwrap_or_default();
        let listed: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!(listed, ["/var/lib/sessile/sessions.db", kind], "{output:?}");
        kinds.push(kind);
    }
    assert_eq!(kinds, ["file", "sftp", "s3"]);
}

/// The program, as `$LITESTREAM` or on PATH; `None`, with a printed reason, where there is none.
fn litestream() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::var_os("LITESTREAM").map_or_else(
        || {
            std::env::split_paths(&path)
                .map(|folder| folder.join("litestream"))
                .find(|program| program.is_file())
        },
        |named| Some(PathBuf::from(named)),
    );
    if found.is_none() {
        skipped("there is no litestream, neither as $LITESTREAM nor on PATH");
    }
    found
}

#[test]
fn all_that_is_commented_out_in_the_configuration_is_allowed() {
    let sandbox = Sandbox::new();
    let installed = fs::read_to_string(packaging().join("sessile.toml")).unwrap();
    sandbox.write("key_first", "a-key-for-tests-of-32-characters\n");
    let config = |text: &str| {
        let path = sandbox.write("installed.toml", text);
        sandbox
            .run(&["config", "--config", path.to_str().unwrap()])
            .ok()
    };
    config(&installed);
    // A setting is commented out without a blank, as words are not.
    let all: Vec<&str> = installed
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting)
                if setting
                    .starts_with(|first: char| first == '[' || first.is_ascii_lowercase()) =>
            {
                setting
            }
            _ => line,
        })
        .collect();
    let shown = config(&all.join("\n"));
    for value in ["acme", "billing", "127.0.0.1:11005"] {
        assert!(shown.contains(value), "{shown}");
    }
    // And nothing that could be set is left out.
    let left_out: Vec<&str> = shown
        .lines()
        .filter(|line| line.ends_with("# default") || line.ends_with("is not set"))
        .filter(|line| {
            // Files that would have to be there, alternatives of a key, and limits that a preset has.
            ["server.tls.", "auth.keys[", "sessions.policy.tenants."]
                .iter()
                .all(|known| !line.contains(known))
        })
        .collect();
    assert!(left_out.is_empty(), "{left_out:#?}");
}
