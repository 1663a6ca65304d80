//! The configuration: a file, environment variables and flags.
//!
//! The input is the file. Its comments `#env NAME=VALUE` and `#flag NAME VALUE` say what stands beside it. Whatever
//! comes, there is no panic, and every fault says where it is.

use std::cell::LazyCell;
use std::ffi::OsString;
use std::fs;

use sessile::config::{Config, Faults, Flags, Mode, Origin};
use tempfile::TempDir;

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

/// Variables are the process's: not to be called beside another thread.
pub(crate) fn run(data: &[u8]) {
    let file = FOLDER.with(|folder| folder.path().join("sessile.toml"));
    fs::write(&file, data).unwrap();
    let text = String::from_utf8_lossy(data);
    let mut flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let mut variables = Variables::default();
    for line in text.lines() {
        if let Some((name, value)) = line
            .strip_prefix("#env ")
            .and_then(|pair| pair.split_once('='))
        {
            variables.set(name, value);
        } else if let Some((name, value)) = line
            .strip_prefix("#flag ")
            .and_then(|pair| pair.split_once(' '))
        {
            let value = Some(value.to_owned());
            match name {
                "listen" => flags.listen.extend(value),
                "database" => flags.database = value,
                "mode" => flags.mode = value,
                "log_level" => flags.log_level = value,
                "log_format" => flags.log_format = value,
                _ => {}
            }
        }
    }
    match Config::load(&flags) {
        Ok(config) => check(&config, &text),
        Err(faults) => check_faults(&faults),
    }
}

fn check(config: &Config, text: &str) {
    let listening = &config.server.listening;
    assert!(!listening.listen.is_empty());
    assert!(config.server.max_in_flight > 0);
    assert!(!config.settings.is_empty());
    let mut addresses = listening.listen.iter().chain(&listening.admin_listen);
    assert!(config.mode == Mode::Production || addresses.all(|address| address.is_local()));
    for setting in &config.settings {
        assert!(!setting.key.is_empty(), "{setting:?}");
        assert!(
            setting.value.is_some() || setting.origin == Origin::Default,
            "{setting:?}"
        );
    }
    // Which file of this machine is named as that of a key is nothing that should decide a test.
    if !text.contains("key_file") && !text.contains('\\') {
        match config.keyring() {
            Ok(keyring) => assert!(keyring.iter().count() <= config.auth.keys.len() + 1),
            Err(faults) => check_faults(&faults),
        }
        config.key_weaknesses();
    }
}

fn check_faults(faults: &Faults) {
    assert!(!faults.0.is_empty());
    let told = faults.to_string();
    for fault in &faults.0 {
        let has_place = !fault.key.is_empty() || fault.origin != Origin::Default;
        assert!(has_place && !fault.complaint.is_empty(), "{fault:?}");
        assert!(told.contains(&fault.to_string()), "{told}");
    }
}

/// Environment variables, gone when dropped.
#[derive(Default)]
struct Variables(Vec<OsString>);

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        let is_ours =
            name.starts_with("SESSILE_") && name != "SESSILE_CONFIG" || name == "INTERNAL_API_KEY";
        if is_ours && !name.contains(['=', '\0']) && !value.contains('\0') {
            #[allow(
                unsafe_code,
                reason = "the caller has one thread, and so nobody reads the environment meanwhile"
            )]
            unsafe {
                std::env::set_var(name, value);
            }
            self.0.push(name.into());
        }
    }
}

impl Drop for Variables {
    fn drop(&mut self) {
        for name in &self.0 {
            #[allow(unsafe_code, reason = "as above")]
            unsafe {
                std::env::remove_var(name);
            }
        }
    }
}
