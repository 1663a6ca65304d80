//! Bytes: listeners, TLS, connections, drain. What a request means is the business of the [`Service`] it is handed to.

mod connection;
mod descriptors;
mod listener;
mod memory;
mod peers;
mod room;
mod seldom;
mod shown;
mod tls;
mod unix;
mod waiting;
mod workers;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::sync::watch;
use tokio::time::sleep;

pub use descriptors::allow as allow_descriptors;
use listener::Stream;
pub use listener::{Address, BindError, Door, Inherited, Listener};
pub use peers::Peers;
pub use shown::shown_by;
pub use tls::{Tls, TlsFault, TlsFile, TlsFiles, Validity};
pub use unix::UnixDoor;
pub use workers::AHEAD;
use workers::Workers;

/// How long a failed accept is not tried again. The usual cause, no file descriptor left, passes only as
/// connections end; trying at once would spend a core on failing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many may be open. One more takes the place of the one whose caller was waited for longest.
    pub connections: usize,
    /// How long the first byte of a new connection may take, and how long the head of a request from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may lie idle between two requests.
    pub idle_timeout: Duration,
    /// How long a caller may take nothing of an answer.
    pub write_timeout: Duration,
    /// How long requests under way may take to finish when the server stops.
    pub drain_timeout: Duration,
    /// The largest head of a request, in bytes. Beyond it hyper answers an empty 431; the limits of `api`, which
    /// answer a Problem, must lie well below. So must its limit of header fields below hyper's own, 100.
    pub head_bytes: usize,
}

/// What a connection's requests are answered by.
pub trait Answers:
    Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Answers for S where
    S: Service<
            Request<Incoming>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Serves every connection of `listeners` until `shutdown` turns true; then takes no more, lets the requests under
/// way finish, and returns when the last connection is closed or the time to drain has passed: whether all were closed.
///
/// `services` has an element for each worker, a thread of its own, and in it a service for each listener.
/// `companions` has a future for each worker, which that runs beside its connections until it ends.
pub async fn serve<S: Answers>(
    listeners: Vec<Listener>,
    services: Vec<Vec<S>>,
    companions: Vec<impl Future<Output = ()> + Send + 'static>,
    shutdown: watch::Receiver<bool>,
    limits: &Limits,
) -> io::Result<bool> {
    for listener in &listeners {
        listener.prepare(limits)?;
    }
    let workers = Workers::start(services, companions, &shutdown, limits)?;
    let accepting = listeners.into_iter().enumerate().map(|(number, listener)| {
        let mut shutdown = shutdown.clone();
        let workers = &workers;
        async move {
            tokio::select! {
                biased;
                () = stopping(&mut shutdown) => {}
                () = accept(&listener, async |stream| workers.hand(stream, number).await) => {}
            }
        }
    });
    tokio::select! {
        _ = join_all(accepting) => {}
        () = memory::tidy() => {}
    }
    Ok(workers.finish().await)
}

/// How many workers this machine is best served by: one a core.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Accepts connections for ever.
async fn accept(listener: &Listener, hand: impl AsyncFn(Stream)) {
    loop {
        match listener.accept().await {
            Ok(stream) => hand(stream).await,
            // Its caller is gone already, which is nobody else's trouble.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits until it is time to stop, which it also is when nobody is left to say so.
async fn stopping(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
