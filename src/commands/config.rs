//! `sessile config`: the effective configuration, each value with its source, no secret shown.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::{Done, load, say, warn};
use crate::cli::ShowConfig;
use crate::config::Config;

#[derive(Serialize)]
struct Effective<'c> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'c Path>,
    settings: Vec<Setting<'c>>,
    /// The names of the API keys.
    keys: &'c [&'c str],
}

#[derive(Serialize)]
struct Setting<'c> {
    key: &'c str,
    /// Left out where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'c Value>,
    source: String,
}

pub(super) fn run(args: &ShowConfig) -> anyhow::Result<Done> {
    let config = load(&args.common)?;
    let keys = config.key_names();
    let effective = Effective {
        file: config.file.as_deref(),
        settings: config
            .settings
            .iter()
            .map(|setting| Setting {
                key: &setting.key,
                value: setting.value.as_ref().map(|value| &value.json),
                source: setting.origin.to_string(),
            })
            .collect(),
        keys: &keys,
    };
    say(&args.output, &effective, |out| words(out, &config, &keys))?;
    // What is wrong with the files of keys and of TLS is said after the rest was shown.
    config.keyring()?;
    config.tls()?;
    if keys.is_empty() {
        warn(
            "no API key is configured, so `sessile serve` would not start; `sessile key new NAME` makes one",
        );
    }
    Ok(Done::Yes)
}

fn words(out: &mut dyn Write, config: &Config, keys: &[&str]) -> io::Result<()> {
    let lines: Vec<(String, &_)> = config
        .settings
        .iter()
        .map(|setting| match &setting.value {
            Some(value) => (format!("{} = {}", setting.key, value.toml), &setting.origin),
            None => (format!("# {} is not set", setting.key), &setting.origin),
        })
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0);
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
    if !keys.is_empty() {
        writeln!(out, "# {} API keys: {}", keys.len(), keys.join(", "))?;
    }
    Ok(())
}
