//! SIGHUP: the configuration is read anew, and what of it can change takes the place of what was, between two
//! requests. No connection notices.
//!
//! All of it is read and checked before any of it is put to work, so a fault anywhere leaves everything as it was. To
//! make more of the configuration changeable, name its keys in [`CHANGEABLE`], make what is made of them in
//! [`Running::read`], where it may fail, and put it in its place in [`Running::put_to_work`], where it may not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

use super::{keys, tell_ends, tell_weaknesses};
use crate::api::Api;
use crate::api::auth::Keyring;
use crate::config::{Config, Faults, Flags, Setting};
use crate::server::Tls;
use crate::systemd;
use crate::time::Timestamp;

/// The tables and lists of the configuration that a reload changes.
const CHANGEABLE: [&str; 3] = ["auth.keys", "server.tls", "sessions"];

/// What the process was started with.
struct Running {
    config: Config,
    flags: Flags,
    tls: Option<Arc<Tls>>,
}

/// What was read anew.
struct Fresh {
    config: Config,
    keyring: Keyring,
    tls: Option<Tls>,
}

/// Reloads for each signal, one after another; signals that come meanwhile are one more.
pub(super) async fn on_hangup(
    mut hangup: Signal,
    config: Config,
    flags: Flags,
    api: &Api,
    tls: Option<Arc<Tls>>,
) -> Infallible {
    let running = Arc::new(Running { config, flags, tls });
    loop {
        hangup.recv().await;
        reload(&running, api).await;
    }
}

async fn reload(running: &Arc<Running>, api: &Api) {
    systemd::reloading();
    // On another thread, since the disk may take its time, and connections are accepted on this one.
    let reading = Arc::clone(running);
    let read = spawn_blocking(move || reading.read()).await;
    let why = match read {
        Ok(Ok(fresh)) => {
            running.put_to_work(fresh, api);
            api.metrics().reload.succeeded(Timestamp::now());
            systemd::reloaded();
            return;
        }
        Ok(Err(Faults(faults))) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        }
        Err(_) => "a bug: this code panicked".to_owned(),
    };
    api.metrics().reload.failed();
    tracing::error!(
        config.faults = why,
        "the configuration was not reloaded: what was in force stays so"
    );
    systemd::reloaded();
}

impl Running {
    /// Reads the configuration and all that it names.
    fn read(&self) -> Result<Fresh, Faults> {
        let config = self.config.reload(&self.flags)?;
        let keyring = keys(&config)?;
        let tls = config.tls()?;
        Ok(Fresh {
            config,
            keyring,
            tls,
        })
    }

    fn put_to_work(&self, fresh: Fresh, api: &Api) {
        for key in changed(&self.config.settings, &fresh.config.settings) {
            tell_later(key);
        }
        let now = Timestamp::now();
        tell_ends(&fresh.keyring, now);
        tell_weaknesses(fresh.tls.as_ref(), now);
        match (&self.tls, fresh.tls) {
            (Some(running), Some(fresh)) => running.replace(fresh),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => tell_later("server.tls"),
        }
        let count = fresh.keyring.len();
        api.replace(fresh.keyring, fresh.config.policies);
        tracing::info!(
            config.keys = count,
            "the configuration was reloaded; API keys in force: {count}"
        );
    }
}

fn tell_later(key: &str) {
    tracing::warn!(
        config.key = key,
        "this setting has changed, which counts from the next start on only"
    );
}

/// The keys outside of [`CHANGEABLE`] whose values differ, in their order.
fn changed<'s>(before: &'s [Setting], after: &'s [Setting]) -> Vec<&'s str> {
    let fixed = |settings: &'s [Setting]| -> BTreeMap<&'s str, _> {
        let fixed = settings
            .iter()
            .filter(|setting| !is_changeable(&setting.key));
        fixed
            .map(|setting| (setting.key.as_str(), &setting.value))
            .collect()
    };
    let (before, after) = (fixed(before), fixed(after));
    let mut keys: Vec<&str> = before.keys().chain(after.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let value = |settings: &BTreeMap<_, &'s Option<_>>, key| {
        settings.get(key).and_then(|value| value.as_ref())
    };
    keys.retain(|key| value(&before, *key) != value(&after, *key));
    keys
}

fn is_changeable(key: &str) -> bool {
    CHANGEABLE.iter().any(|part| {
        key.strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}
