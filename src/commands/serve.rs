//! `sessile serve`: the rooms wired together, from the configuration to the last closed connection.

mod demo;
mod listening;
mod reload;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::OptionFuture;
use hyper::service::service_fn;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Done;
use crate::api::auth::Keyring;
use crate::api::{Api, Endpoint, Settings, Surface};
use crate::cli;
use crate::config::{Config, Fault, Faults, Flags, Mode, Origin, tls_weaknesses};
use crate::server::{self, Answers, Door, Limits, Listener, Tls, workers};
use crate::store::{Reader, integrity};
use crate::systemd::{self, Sockets, Watchdog};
use crate::telemetry;
use crate::time::{Span, Timestamp};

/// How many files a connection to the data file holds open, and how many this process does beside all connections:
/// its own ends of events, logs and listeners, with room to spare.
const FILES_A_READER: usize = 3;
const FILES_BESIDE: usize = 64;

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
    if config.mode == Mode::Production {
        keep_memory_private();
    }
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

fn tell_weaknesses(tls: Option<&Tls>, now: Timestamp) {
    for weakness in tls.iter().flat_map(|tls| tls_weaknesses(tls, now)) {
        tracing::warn!(config.key = weakness.key, "{}", weakness.found);
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

/// Keeps the keys, and what callers send, out of core dumps, and this process' memory and environment from other
/// processes of its user. `RLIMIT_CORE` would not do: the kernel hands a dump to a program such as systemd-coredump
/// whatever that limit is (core(5)). In development mode debuggers still work; in production they take root.
fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a crash could write the API keys to a core dump");
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
    let now = Timestamp::now();
    tell_ends(&keyring, now);
    let tls = config.tls()?.map(Arc::new);
    tell_weaknesses(tls.as_deref(), now);
    let reader = Reader::open(&config.database.path, config.database.reading)?;
    let settings = Settings {
        development: config.mode == Mode::Development,
        key_header: config.auth.header.clone(),
        service: config.service_name.clone(),
        problems_base_url: config.problems_base_url.clone(),
        max_in_flight: config.server.max_in_flight,
        frame: config.server.frame,
        workers: workers(),
    };
    let api = Api::new(settings, keyring, config.policies.clone(), reader.clone())?;
    let limits = fit(
        config.server.limits.clone(),
        config.database.reading.pool_size,
    );

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
        let leave = sockets
            .operation
            .is_empty()
            .then_some(config.server.drain_delay);
        let door = Door {
            tls: tls.clone(),
            unix: config.server.listening.unix.clone(),
        };
        let (listeners, admin_listeners) =
            listening::open(&config.server.listening, sockets, &door).await?;
        listening::announce("listening on", &listeners)?;
        listening::announce("admin listening on", &admin_listeners)?;
        greet(&listeners.first().map(Listener::url).unwrap_or_default())?;
        let interval = config.database.integrity_check_interval;
        let _checks = interval
            .map(|interval| integrity::Watch::start(&reader, interval))
            .transpose()?;

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
        let (stop, stopping) = watch::channel(false);
        let all = [listeners, admin_listeners].into_iter().flatten().collect();
        let served = server::serve(all, services, companions, stopping, &limits);
        let reloads = hangup
            .zip(flags)
            .map(|(hangup, flags)| reload::on_hangup(hangup, config, flags, &api, tls));
        let beside = async { tokio::join!(OptionFuture::from(reloads), watchdog.run(&status)).1 };
        let drain_timeout = limits.drain_timeout;
        serve_all(&api, served, stop, signals, beside, leave, drain_timeout).await?;
        Ok(Done::Yes)
    });
    runtime.shutdown_background();
    done
}

/// The limits, with as many connections as the limit of open files has room for.
fn fit(limits: Limits, readers: u32) -> Limits {
    let others = FILES_BESIDE + FILES_A_READER * readers as usize + (server::AHEAD + 4) * workers();
    let connections = server::allow_descriptors(limits.connections, others);
    if connections < limits.connections {
        tracing::warn!(
            "the hard limit of open files (RLIMIT_NOFILE) has room for {connections} connections, and no more are \
             held, though server.max_connections is {}; raise it to {} (LimitNOFILE= of a systemd unit)",
            limits.connections,
            limits.connections + others
        );
    }
    Limits {
        connections,
        ..limits
    }
}

fn service(endpoint: Endpoint) -> impl Answers {
    service_fn(move |request| endpoint.respond(request))
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

/// Serves, with what is to be done beside, until the first signal to stop. Where callers have to go elsewhere, it
/// answers as before for a while, `leave`, and `/readyz` sends them; then it drains until all is done, time is up, or a
/// second signal.
async fn serve_all(
    api: &Api,
    served: impl Future<Output = io::Result<bool>>,
    stop: watch::Sender<bool>,
    [mut terminate, mut interrupt]: [Signal; 2],
    beside: impl Future<Output = Infallible>,
    leave: Option<Duration>,
    drain_timeout: Duration,
) -> io::Result<()> {
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let mut served = pin!(served);
    let signal = tokio::select! {
        signal = signalled() => signal,
        served = &mut served => return served.map(|_| ()), // the workers could not be started
        never = beside => match never {},
    };
    tracing::info!(signal, "stopping; requests under way are finished");
    systemd::stopping("stopping; requests under way are finished");
    let drained = async {
        if let Some(delay) = leave {
            api.leave();
            tokio::select! {
                () = sleep(delay) => {}
                served = &mut served => return served, // never: nobody has told it to stop
            }
            api.drain();
        }
        stop.send_replace(true);
        served.await
    };
    tokio::select! {
        all_closed = drained => match all_closed? {
            true => tracing::info!("stopped"),
            false => tracing::warn!(
                "stopped; connections were still open after {:?}, server.drain_timeout",
                drain_timeout
            ),
        },
        signal = signalled() => tracing::warn!(signal, "stopped at once, by a second signal"),
    }
    Ok(())
}
