//! `sessile serve`: the rooms wired together, from the configuration to the last closed connection.

mod demo;
mod reload;

use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::OptionFuture;
use hyper::service::service_fn;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Done, out};
use crate::api::auth::Keyring;
use crate::api::{Api, Endpoint, Settings, Surface};
use crate::cli;
use crate::config::{Config, Fault, Faults, Flags, Mode, Origin};
use crate::server::{self, Address, Answers, BindError, Inherited, Listener, workers};
use crate::store::Reader;
use crate::systemd::{self, SocketError, Sockets, Watchdog};
use crate::telemetry;
use crate::time::{Span, Timestamp};

/// How long requests under way may take to finish after a signal.
const DRAIN: Duration = Duration::from_secs(10);

/// How long before its end a key's end is told.
const SOON: Span = Span::from_days(14);

pub(super) fn run(args: &cli::Serve) -> anyhow::Result<Done> {
    if args.demo {
        return demo::run(args);
    }
    let flags = flags(args);
    let config = Config::load(&flags)?;
    let sockets = Sockets::take()?;
    telemetry::init(config.log.level, config.log.format).context("can't start logging")?;
    let keyring = keys(&config)?;
    serve(config, keyring, Some(flags), sockets, |_| Ok(()))
}

/// The keys of the configuration, of which there must be one.
fn keys(config: &Config) -> Result<Keyring, Faults> {
    let keyring = config.keyring()?;
    if keyring.is_empty() {
        let complaint =
            "found no API key; allowed: at least one, which `sessile key new NAME` makes"
                .to_owned();
        let origin = config.file.clone().map_or(Origin::Default, Origin::File);
        return Err(Faults(vec![Fault {
            origin,
            key: "auth.keys".to_owned(),
            complaint,
        }]));
    }
    Ok(keyring)
}

/// Says which keys have expired, and which are about to.
fn tell_ends(keyring: &Keyring, now: Timestamp) {
    for key in keyring.iter() {
        let Some(end) = key.not_after else { continue };
        if key.is_expired_at(now) {
            tracing::warn!(key.name, key.not_after = %end, "this API key has expired and is refused");
        } else if key.is_expired_at(now.saturating_add(SOON)) {
            tracing::warn!(key.name, key.not_after = %end, "this API key is about to expire");
        }
    }
}

fn flags(args: &cli::Serve) -> Flags {
    Flags {
        config: args.common.config.clone(),
        database: args.common.database.clone(),
        listen: args.listen.clone(),
        mode: args.mode.clone(),
        log_level: args.log_level.clone(),
        log_format: args.log_format.clone(),
    }
}

/// Serves until a signal. `greet` is told the first address once requests are answered there. `flags` are what the
/// configuration is read with when it is read anew; without them it never is. `sockets` go before its addresses.
fn serve(
    config: Config,
    keyring: Keyring,
    flags: Option<Flags>,
    sockets: Sockets,
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Done> {
    tell_ends(&keyring, Timestamp::now());
    let reader = Reader::open(&config.database.path, config.database.reading)?;
    let settings = Settings {
        development: config.mode == Mode::Development,
        key_header: config.auth.header.clone(),
        service: config.service_name.clone(),
        problems_base_url: config.problems_base_url.clone(),
        max_in_flight: config.server.max_in_flight,
        workers: workers(),
    };
    let api = Api::new(settings, keyring, config.policies.clone(), reader)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ];
        let hangup = flags
            .is_some()
            .then(|| signal(SignalKind::hangup()))
            .transpose()?;
        // Whoever listens for us goes on to: callers that we take no more are not refused, but wait for who comes next.
        let succeeded = !sockets.operation.is_empty();
        let listeners = listen(sockets.operation, &config.server.listen, config.mode).await?;
        let admin_listeners =
            listen(sockets.admin, &config.server.admin_listen, config.mode).await?;
        announce("listening on", &listeners)?;
        announce("admin listening on", &admin_listeners)?;
        greet(&listeners.first().map(Listener::url).unwrap_or_default())?;

        let surface = if admin_listeners.is_empty() {
            Surface::All
        } else {
            Surface::Operation
        };
        let surfaces = [
            vec![surface; listeners.len()],
            vec![Surface::Admin; admin_listeners.len()],
        ]
        .concat();
        let endpoints = api.endpoints(&surfaces);
        let (watchdog, pulses) = Watchdog::new(endpoints.len());
        let companions = endpoints.iter().zip(pulses).map(|(endpoints, pulse)| {
            let endpoint = endpoints.first().cloned();
            pulse.run(move || {
                let endpoint = endpoint.clone();
                async move {
                    if let Some(endpoint) = endpoint {
                        endpoint.pulse().await;
                    }
                }
            })
        });
        let companions = companions.collect();
        let services = endpoints
            .into_iter()
            .map(|worker| worker.into_iter().map(service).collect())
            .collect();
        let status = status(&listeners, &admin_listeners);
        let reloads = hangup
            .zip(flags)
            .map(|(hangup, flags)| reload::on_hangup(hangup, config, flags, &api));
        serve_all(
            &api,
            [listeners, admin_listeners].into_iter().flatten().collect(),
            services,
            companions,
            signals,
            OptionFuture::from(reloads),
            watchdog.run(&status),
            succeeded,
        )
        .await?;
        Ok(Done::Yes)
    });
    runtime.shutdown_background();
    done
}

fn service(endpoint: Endpoint) -> impl Answers {
    service_fn(move |request| endpoint.respond(request))
}

/// The sockets that were handed over, or, without such, those that the configuration names.
async fn listen(
    sockets: Vec<Inherited>,
    addresses: &[Address],
    mode: Mode,
) -> anyhow::Result<Vec<Listener>> {
    if sockets.is_empty() {
        return Ok(bind_all(addresses).await?);
    }
    let listeners: Vec<Listener> = sockets
        .into_iter()
        .map(Listener::adopt)
        .collect::<io::Result<_>>()?;
    let abroad = listeners
        .iter()
        .find(|listener| listener.abroad().is_some());
    match abroad {
        Some(listener) if mode == Mode::Development => {
            Err(SocketError::abroad(&listener.url()).into())
        }
        _ => Ok(listeners),
    }
}

async fn bind_all(addresses: &[Address]) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(address.bind().await?);
    }
    Ok(listeners)
}

/// The ready line: whoever started us may read the port from it.
fn announce(what: &str, listeners: &[Listener]) -> anyhow::Result<()> {
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

/// What `systemctl status` says.
fn status(listeners: &[Listener], admin_listeners: &[Listener]) -> String {
    let urls: Vec<String> = listeners
        .iter()
        .chain(admin_listeners)
        .map(Listener::url)
        .collect();
    format!("answering at {}", urls.join(", "))
}

/// Serves every listener, with reloads, until the first signal to stop, then drains until all is done, time is up, or a second signal.
async fn serve_all(
    api: &Api,
    listeners: Vec<Listener>,
    services: Vec<Vec<impl Answers>>,
    companions: Vec<impl Future<Output = ()> + Send + 'static>,
    [mut terminate, mut interrupt]: [Signal; 2],
    reloads: impl Future<Output = Option<Infallible>>,
    watchdog: impl Future<Output = Infallible>,
    succeeded: bool,
) -> io::Result<()> {
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (stop, stopping) = watch::channel(false);
    let mut served = pin!(server::serve(
        listeners, services, companions, stopping, DRAIN
    ));
    let signal = tokio::select! {
        signal = signalled() => signal,
        served = &mut served => return served.map(|_| ()), // the workers could not be started
        Some(never) = reloads => match never {},
        never = watchdog => match never {},
    };
    tracing::info!(signal, "stopping; requests under way are finished");
    systemd::stopping("stopping; requests under way are finished");
    if !succeeded {
        api.drain();
    }
    stop.send_replace(true);
    tokio::select! {
        all_closed = served => match all_closed? {
            true => tracing::info!("stopped"),
            false => tracing::warn!("stopped; connections were still open after {} s", DRAIN.as_secs()),
        },
        signal = signalled() => tracing::warn!(signal, "stopped at once, by a second signal"),
    }
    Ok(())
}
