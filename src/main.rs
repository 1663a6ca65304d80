//! Parse, run, exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    sessile::commands::run(sessile::cli::Cli::parse())
}
