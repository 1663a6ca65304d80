//! What the package installs beside the program: units that systemd takes and finds well closed, and a configuration
//! in which whatever is commented out is allowed. The package itself is tried by `tests/systemd/run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Sandbox, skipped};

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The units as they are installed, in a folder of the sandbox, but with this program.
fn units(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.path("units");
    for drop_ins in ["sessile-.service.d", "handed/sessile.service.d"] {
        fs::create_dir_all(folder.join(drop_ins)).unwrap();
    }
    let source = packaging().join("systemd");
    for entry in fs::read_dir(&source).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if [".service", ".socket", ".timer"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let unit = fs::read_to_string(source.join(&name)).unwrap();
            let unit = unit.replace("/usr/bin/sessile", env!("CARGO_BIN_EXE_sessile"));
            fs::write(folder.join(&name), &unit).unwrap();
            fs::write(folder.join("handed").join(name), unit).unwrap();
        }
    }
    let copy = |from, to| fs::copy(source.join(from), folder.join(to)).unwrap();
    copy("task.conf", "sessile-.service.d/sandbox.conf");
    copy("socket.conf", "handed/sessile.service.d/socket.conf");
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

const UNITS: [&str; 6] = [
    "sessile.service",
    "sessile.socket",
    "sessile-backup.service",
    "sessile-backup.timer",
    "sessile-purge.service",
    "sessile-purge.timer",
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
    for (folder, unit, tenths) in [
        (folder.clone(), "sessile.service", "12"),
        (folder.join("handed"), "sessile.service", "5"),
        (folder.clone(), "sessile-backup.service", "5"),
        (folder.clone(), "sessile-purge.service", "5"),
    ] {
        let threshold = format!("--threshold={tenths}");
        let args = ["security", "--offline=true", "--no-pager", &threshold];
        let Some((good, said)) = analyze(&folder, &args, &[unit]) else {
            return;
        };
        assert!(good, "{said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
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
