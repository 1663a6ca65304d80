//! Writes the man pages and the completions of bash, zsh and fish into a folder, from the types of the command line.
//! Run when a package is made, so that the program itself carries none of it:
//!
//! `cargo run --example pages -- FOLDER`

use std::fs;
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("which folder? allowed: one argument"))?;
    pages(&folder.join("man"))?;
    completions(&folder)
}

/// A page for the program and one for each command, as `man sessile-key-new` finds them.
fn pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = sessile::cli::Cli::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, folder)
}

/// Each named as its shell looks for it.
fn completions(folder: &Path) -> io::Result<()> {
    for (shell, name) in [
        (Shell::Bash, "completions/bash/sessile"),
        (Shell::Zsh, "completions/zsh/_sessile"),
        (Shell::Fish, "completions/fish/sessile.fish"),
    ] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let mut file = fs::File::create(path)?;
        clap_complete::generate(
            shell,
            &mut sessile::cli::Cli::command(),
            "sessile",
            &mut file,
        );
    }
    Ok(())
}
