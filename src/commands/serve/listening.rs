//! Where `serve` listens: bound, judged by what the addresses turned out to be, and told.

use std::io::{self, Write};

use crate::commands::out;
use crate::config::{Faults, Listening};
use crate::server::{Address, Door, Inherited, Listener};
use crate::systemd::Sockets;

/// Opens every listener: those of the operation and those of the pages for operators. Sockets that were handed over
/// stand in for the addresses of the configuration.
pub(super) async fn open(
    sockets: Sockets,
    listening: &Listening,
    door: &Door,
) -> anyhow::Result<(Vec<Listener>, Vec<Listener>)> {
    let operation = open_all(sockets.operation, &listening.listen, door).await?;
    let admin = open_all(sockets.admin, &listening.admin_listen, door).await?;
    judge(&operation, listening, false)?;
    judge(&admin, listening, true)?;
    Ok((operation, admin))
}

async fn open_all(
    sockets: Vec<Inherited>,
    addresses: &[Address],
    door: &Door,
) -> anyhow::Result<Vec<Listener>> {
    if !sockets.is_empty() {
        let adopted = sockets
            .into_iter()
            .map(|socket| Listener::adopt(socket, door));
        return Ok(adopted.collect::<io::Result<_>>()?);
    }
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(address.bind(door).await?);
    }
    Ok(listeners)
}

/// Nothing is accepted yet: an address that may not be served is closed with nobody answered.
fn judge(listeners: &[Listener], listening: &Listening, is_admin: bool) -> Result<(), Faults> {
    for listener in listeners {
        let Some(bound) = listener.abroad() else {
            continue;
        };
        listening.admit(bound, listener.is_plain(), is_admin)?;
        if listener.is_plain() {
            tracing::warn!(
                server.url = listener.url(),
                "serving without TLS to other machines, as server.allow_plain says: whoever can read that network \
                 learns API keys and users, and can answer in this server's place"
            );
        }
    }
    Ok(())
}

/// The ready line: whoever started us may read the port from it.
pub(super) fn announce(what: &str, listeners: &[Listener]) -> anyhow::Result<()> {
    if !listeners.is_empty() {
        let urls: Vec<String> = listeners.iter().map(Listener::url).collect();
        let urls = urls.join(", ");
        tracing::info!(server.url = urls, "ready: {what} {urls}");
        let mut out = out();
        writeln!(out, "{what} {urls}")?;
        out.flush()?;
    }
    Ok(())
}
