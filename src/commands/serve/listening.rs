//! Where `serve` listens: bound or handed over, judged by what the addresses turned out to be, and told.

use std::io::Write;

use crate::commands::out;
use crate::config::Listening;
use crate::server::{Address, Door, Inherited, Listener};
use crate::systemd::{SocketError, Sockets};

/// Listens at every address, those of the operation and those of the pages for operators: at the sockets that were
/// handed over, or, without such, where the configuration says.
pub(super) async fn open(
    listening: &Listening,
    sockets: Sockets,
    door: &Door,
) -> anyhow::Result<(Vec<Listener>, Vec<Listener>)> {
    Ok((
        open_all(&listening.listen, sockets.operation, listening, door, false).await?,
        open_all(
            &listening.admin_listen,
            sockets.admin,
            listening,
            door,
            true,
        )
        .await?,
    ))
}

/// Nothing is accepted yet: an address that may not be served is closed with nobody answered.
async fn open_all(
    addresses: &[Address],
    sockets: Vec<Inherited>,
    listening: &Listening,
    door: &Door,
    is_admin: bool,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    if sockets.is_empty() {
        for address in addresses {
            let listener = address.bind(door).await?;
            if let Some(bound) = listener.abroad() {
                listening.admit(bound, listener.is_plain(), is_admin)?;
            }
            listeners.push(listener);
        }
    }
    for socket in sockets {
        let listener = Listener::adopt(socket, door)?;
        if let Some(bound) = listener.abroad() {
            let admitted = listening.admit(bound, listener.is_plain(), is_admin);
            admitted.map_err(|_| SocketError::abroad(&listener.url()))?;
        }
        listeners.push(listener);
    }
    for listener in &listeners {
        if listener.abroad().is_some() && listener.is_plain() {
            tracing::warn!(
                server.url = listener.url(),
                "serving without TLS to other machines, as server.allow_plain says: whoever can read that network \
                 learns API keys and users, and can answer in this server's place"
            );
        }
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
