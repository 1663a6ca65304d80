//! `cargo test`: every file of `corpus/` once more, without a fuzzer and on any compiler.
//!
//! Not one of the tests of `tests/it`: the target `config` sets environment variables, which is sound only while the
//! process has one thread.

#![allow(clippy::unwrap_used, reason = "what a fuzzer looks for")]
#![allow(clippy::print_stdout, reason = "what a harness is for")]

mod targets;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// A target, and the fewest inputs that its corpus has: one that is not found must not look like one that is right.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    fewest: usize,
}

const TARGETS: [Target; 4] = [
    // First, while no pool of connections has threads.
    Target {
        name: "config",
        run: targets::config::run,
        fewest: 10,
    },
    Target {
        name: "path",
        run: targets::path::run,
        fewest: 20,
    },
    Target {
        name: "request",
        run: targets::request::run,
        fewest: 50,
    },
    Target {
        name: "import",
        run: targets::import::run,
        fewest: 15,
    },
];

fn main() -> ExitCode {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for Target { name, run, fewest } in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(
            files.len() >= fewest,
            "only {} inputs of {name}",
            files.len()
        );
        for file in &files {
            let input = fs::read(file).unwrap();
            if std::panic::catch_unwind(|| run(&input)).is_err() {
                println!("that was {}", file.display());
                return ExitCode::FAILURE;
            }
        }
        println!("{name}: {} inputs", files.len());
    }
    ExitCode::SUCCESS
}
