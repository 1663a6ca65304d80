//! `sessile config`: the effective configuration, each value with its source, no secret shown.

use std::io::{Write, stderr};

use super::{Done, load, out};
use crate::cli::Common;

pub(super) fn run(common: &Common) -> anyhow::Result<Done> {
    let config = load(common)?;
    let keyring = config.keyring()?;
    let lines: Vec<(String, &_)> = config
        .settings
        .iter()
        .map(|setting| match &setting.value {
            Some(value) => (format!("{} = {value}", setting.key), &setting.origin),
            None => (format!("# {} is not set", setting.key), &setting.origin),
        })
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = out();
    match &config.file {
        Some(file) => writeln!(out, "# the configuration file is {}", file.display())?,
        None => writeln!(out, "# there is no configuration file")?,
    }
    for (line, origin) in &lines {
        if line.starts_with('#') {
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{line:width$}  # {origin}")?;
        }
    }
    let mut keys: Vec<_> = keyring.iter().map(|key| key.name.as_str()).collect();
    keys.sort_unstable();
    if keys.is_empty() {
        let _ = writeln!(
            stderr(),
            "sessile: no API key is configured, so `sessile serve` would not start; `sessile key new NAME` makes one"
        );
    } else {
        writeln!(out, "# {} API keys: {}", keys.len(), keys.join(", "))?;
    }
    Ok(Done::Yes)
}
