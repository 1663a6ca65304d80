//! `sessile key`: new API keys.

use anyhow::bail;
use serde::Serialize;

use super::{Done, say};
use crate::api::auth::Digest;
use crate::cli::Output;

#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    key: &'a str,
    sha256: String,
}

pub(super) fn new(name: &str, output: &Output) -> anyhow::Result<Done> {
    if !crate::config::is_key_name(name) {
        bail!(
            "found the name {name:?}; allowed: {}",
            crate::config::KEY_NAME_ALLOWED
        );
    }
    // 256 bits from the operating system, in characters that any header, file and shell takes as they are.
    let mut bits = [0u8; 32];
    getrandom::fill(&mut bits)?;
    let key: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let made = NewKey {
        name,
        key: &key,
        sha256: Digest::of(key.as_bytes()).to_string(),
    };
    let quoted = serde_json::to_string(name)?; // visible ASCII is quoted alike in JSON and in TOML
    say(output, &made, |out| {
        writeln!(
            out,
            "{key}\n\n\
             # This is the key, shown this once: hand it to the caller, who sends it as X-API-Key.\n\
             # These lines go into the configuration file:\n\n\
             [[auth.keys]]\n\
             name = {quoted}\n\
             sha256 = \"{}\"",
            made.sha256
        )
    })?;
    Ok(Done::Yes)
}
