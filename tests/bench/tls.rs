//! What TLS costs: ours with it beside ours without, asked by the same callers in rounds; and handshakes alone.
//!
//! The callers share this machine and do the other half of the cryptography, so what a server takes is told by its
//! processor time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::figures::median;
use crate::load::{Request, is_whole};
use crate::process::Server;
use crate::{Options, data, say};

pub(crate) fn compare(options: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("bench.db");
    data::fill(&database, options.rows);
    let config = make_files(folder.path());
    let without = Arc::new({
        let mut config = ClientConfig::clone(&config);
        config.resumption = Resumption::disabled();
        config
    });
    let (plain, tls) = (
        Server::sessile(&database),
        Server::sessile_with_tls(&database, folder.path()),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let measure = |server: &Server, callers: Callers| {
        let before = server.processor_time();
        let done = runtime.block_on(run(server, callers, options));
        let processor = server.processor_time() - before;
        (
            done as f64 / options.seconds,
            processor.as_secs_f64() * 1e6 / done as f64,
        )
    };
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push([
            measure(&plain, Callers::Keep(None)),
            measure(&tls, Callers::Keep(Some(&config))),
            measure(&tls, Callers::Reconnect(&without)),
            measure(&tls, Callers::Reconnect(&config)),
        ]);
    }
    let figure = |index: usize, of: fn(&(f64, f64)) -> f64| {
        median(rounds.iter().map(|round| of(&round[index])))
    };
    let ratio = |of: fn(&(f64, f64)) -> f64| {
        median(rounds.iter().map(|round| of(&round[1]) / of(&round[0])))
    };
    say(&format!(
        "medians of {} rounds of {} s, {} connections, {} rows, ECDSA P-256, TLS 1.3",
        options.rounds, options.seconds, options.connections, options.rows
    ));
    say(&format!(
        "requests on open connections: plain {:.0}/s, {:.2} µs; TLS {:.0}/s ({:.2}), {:.2} µs ({:.2})",
        figure(0, |f| f.0),
        figure(0, |f| f.1),
        figure(1, |f| f.0),
        ratio(|f| f.0),
        figure(1, |f| f.1),
        ratio(|f| f.1),
    ));
    for (index, what) in [(2, "whole"), (3, "resumed")] {
        say(&format!(
            "handshakes with one request, {what}: {:.0}/s, {:.0} µs of the server each",
            figure(index, |f| f.0),
            figure(index, |f| f.1)
        ));
    }
}

/// Makes `cert.pem` and `key.pem`; what a caller needs to trust them.
fn make_files(folder: &std::path::Path) -> Arc<ClientConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Clone, Copy)]
enum Callers<'c> {
    /// Ask on one connection again and again.
    Keep(Option<&'c Arc<ClientConfig>>),
    /// Open one for each request.
    Reconnect(&'c Arc<ClientConfig>),
}

async fn run(server: &Server, callers: Callers<'_>, options: &Options) -> u64 {
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    let users = options.rows / data::SESSIONS_A_USER;
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let address = server.address.clone();
            let (config, keeps) = match callers {
                Callers::Keep(config) => (config.cloned(), true),
                Callers::Reconnect(config) => (Some(Arc::clone(config)), false),
            };
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    let stream = TcpStream::connect(&address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let until = if keeps { end } else { Instant::now() };
                    done += match &config {
                        None => ask(stream, users, until).await,
                        Some(config) => {
                            let name = ServerName::try_from("localhost").unwrap();
                            let connector = TlsConnector::from(Arc::clone(config));
                            let stream = connector.connect(name, stream).await.unwrap();
                            ask(stream, users, until).await
                        }
                    };
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    done
}

/// Asks once, and then on until the time is up.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, users: u64, until: Instant) -> u64 {
    let mut request = Request::new(users);
    let mut buffer = vec![0; 4096];
    let mut done = 0;
    loop {
        stream.write_all(request.next()).await.unwrap();
        stream.flush().await.unwrap();
        let mut filled = 0;
        while !is_whole(&buffer[..filled]) {
            let count = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(count > 0, "the server closed the connection");
            filled += count;
        }
        done += 1;
        if Instant::now() >= until {
            return done;
        }
    }
}
