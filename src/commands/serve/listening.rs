//! Where `serve` listens: bound, judged by what the addresses turned out to be, and told.

use std::io::Write;

use crate::commands::out;
use crate::config::Listening;
use crate::server::{Address, Door, Listener};

/// Binds every address: those of the operation and those of the pages for operators.
pub(super) async fn bind(
    listening: &Listening,
    door: &Door,
) -> anyhow::Result<(Vec<Listener>, Vec<Listener>)> {
    Ok((
        bind_all(&listening.listen, listening, door, false).await?,
        bind_all(&listening.admin_listen, listening, door, true).await?,
    ))
}

/// Nothing is accepted yet: an address that may not be served is closed with nobody answered.
async fn bind_all(
    addresses: &[Address],
    listening: &Listening,
    door: &Door,
    is_admin: bool,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = address.bind(door).await?;
        if let Some(bound) = listener.abroad() {
            listening.admit(bound, listener.is_plain(), is_admin)?;
            if listener.is_plain() {
                tracing::warn!(
                    server.url = listener.url(),
                    "serving without TLS to other machines, as server.allow_plain says: whoever can read that network \
                     learns API keys and users, and can answer in this server's place"
                );
            }
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The ready line: whoever started us may read the port from it.
pub(super) fn announce(what: &str, listeners: &[Listener]) -> anyhow::Result<()> {
    if !listeners.is_empty() {
        let urls: Vec<String> = listeners.iter().map(Listener::url).collect();
        let urls = urls.join(", ");
        tracing::info!(server.url = urls, "{what} {urls}");
        let mut out = out();
        writeln!(out, "{what} {urls}")?;
        out.flush()?;
    }
    Ok(())
}
