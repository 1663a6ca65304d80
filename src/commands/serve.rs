//! `sessile serve`: the rooms wired together, from the configuration to the last closed connection.

mod demo;
mod listening;

use std::future::pending;
use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Done;
use crate::api::auth::Keyring;
use crate::api::{Api, Endpoint, Settings, Surface};
use crate::cli;
use crate::config::{Config, Fault, Faults, Flags, Mode, Origin, tls_weaknesses};
use crate::server::{self, Answers, Door, Listener, Tls, workers};
use crate::store::Reader;
use crate::telemetry;
use crate::time::Timestamp;

/// How long requests under way may take to finish after a signal.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) fn run(args: &cli::Serve) -> anyhow::Result<Done> {
    if args.demo {
        return demo::run(args);
    }
    let config = Config::load(&flags(args))?;
    telemetry::init(config.log.level, config.log.format).context("can't start logging")?;
    let keyring = config.keyring()?;
    if keyring.is_empty() {
        let complaint =
            "found no API key; allowed: at least one, which `sessile key new NAME` makes"
                .to_owned();
        let origin = config.file.map_or(Origin::Default, Origin::File);
        return Err(Faults(vec![Fault {
            origin,
            key: "auth.keys".to_owned(),
            complaint,
        }])
        .into());
    }
    serve(config, keyring, |_| Ok(()))
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

/// Serves until a signal. `greet` is told the first address once requests are answered there.
fn serve(
    config: Config,
    keyring: Keyring,
    greet: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Done> {
    let now = Timestamp::now();
    for key in keyring.iter().filter(|key| key.is_expired_at(now)) {
        tracing::warn!(key.name, "this API key has expired and is refused");
    }
    let tls = config.tls()?;
    for weakness in tls.iter().flat_map(|tls| tls_weaknesses(tls, now)) {
        tracing::warn!(config.key = weakness.key, "{}", weakness.found);
    }
    let reader = Reader::open(&config.database.path, config.database.reading)?;
    let settings = Settings {
        development: config.mode == Mode::Development,
        key_header: config.auth.header,
        service: config.service_name,
        problems_base_url: config.problems_base_url,
        max_in_flight: config.server.max_in_flight,
        workers: workers(),
    };
    let api = Api::new(settings, keyring, config.policies, reader)?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ];
        let door = Door {
            tls: tls.clone(),
            unix: config.server.listening.unix.clone(),
        };
        let (listeners, admin_listeners) = listening::bind(&config.server.listening, &door).await?;
        listening::announce("listening on", &listeners)?;
        listening::announce("admin listening on", &admin_listeners)?;
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
        let services = api
            .endpoints(&surfaces)
            .into_iter()
            .map(|worker| worker.into_iter().map(service).collect())
            .collect();
        serve_all(
            &api,
            [listeners, admin_listeners].into_iter().flatten().collect(),
            services,
            signals,
            tls.as_deref(),
        )
        .await?;
        Ok(Done::Yes)
    });
    runtime.shutdown_background();
    done
}

fn service(endpoint: Endpoint) -> impl Answers {
    service_fn(move |request| endpoint.clone().respond(request))
}

/// Serves every listener until the first signal, then drains until all is done, time is up, or a second signal.
async fn serve_all(
    api: &Api,
    listeners: Vec<Listener>,
    services: Vec<Vec<impl Answers>>,
    [mut terminate, mut interrupt]: [Signal; 2],
    tls: Option<&Tls>,
) -> io::Result<()> {
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let (stop, stopping) = watch::channel(false);
    let mut served = pin!(server::serve(listeners, services, stopping, DRAIN));
    let mut hangup = signal(SignalKind::hangup())?;
    let reloading = async {
        while hangup.recv().await.is_some() {
            let Some(tls) = tls else { continue };
            match tls.reload() {
                Ok(()) => tracing::info!("read the files of TLS anew, for new connections"),
                Err(faults) => faults.iter().for_each(|fault| {
                    tracing::error!(error = %fault, "the files of TLS can't be used; those from before stay in force");
                }),
            }
        }
        pending().await
    };
    let signal = tokio::select! {
        signal = signalled() => signal,
        () = reloading => return Ok(()), // never
        served = &mut served => return served.map(|_| ()), // the workers could not be started
    };
    tracing::info!(signal, "stopping; requests under way are finished");
    api.drain();
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
