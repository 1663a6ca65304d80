//! Bytes: listeners, connections, drain. What a request means is the business of the [`Service`] it is handed to.

mod connection;
mod listener;
mod memory;
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

use listener::Stream;
pub use listener::{Address, BindError, Inherited, Listener};
use workers::Workers;

/// How long a failed accept is not tried again. The usual cause, no file descriptor left, passes only as
/// connections end; trying at once would spend a core on failing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
/// way finish, and returns when the last connection is closed or `drain` has passed: whether all were closed.
///
/// `services` has an element for each worker, a thread of its own, and in it a service for each listener.
/// `companions` has a future for each worker, which that runs beside its connections until it ends.
pub async fn serve<S: Answers>(
    listeners: Vec<Listener>,
    services: Vec<Vec<S>>,
    companions: Vec<impl Future<Output = ()> + Send + 'static>,
    shutdown: watch::Receiver<bool>,
    drain: Duration,
) -> io::Result<bool> {
    let workers = Workers::start(services, companions, &shutdown, drain)?;
    let accepting = listeners.into_iter().enumerate().map(|(number, listener)| {
        let mut shutdown = shutdown.clone();
        let workers = &workers;
        async move {
            tokio::select! {
                biased;
                () = stopping(&mut shutdown) => {}
                () = accept(&listener, |stream| workers.hand(stream, number)) => {}
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
async fn accept(listener: &Listener, mut hand: impl FnMut(Stream)) {
    loop {
        match listener.accept().await {
            Ok(stream) => hand(stream),
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
