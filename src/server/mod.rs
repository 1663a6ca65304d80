//! Bytes: listeners, connections, drain. What a request means is the business of the [`Service`] it is handed to.

mod listener;

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use listener::Stream;
pub use listener::{Address, BindError, Listener};

/// How long a connection may take to send the head of a request, and how long it may lie idle before one:
/// hyper counts both by one clock.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes. Beyond it hyper answers an empty 431; the limits of `api`, which
/// answer a Problem, lie well below.
const MAX_HEAD: usize = 64 * 1024;

/// The most header fields that are parsed; over it, too, hyper answers an empty 431.
const MAX_FIELDS: usize = 100;

/// How long a failed accept is not tried again. The usual cause, no file descriptor left, passes only as
/// connections end; trying at once would spend a core on failing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves every connection of `listener` with `service` until `shutdown` turns true; then takes no more, lets
/// the requests under way finish, and returns when the last connection is closed or `drain` has passed.
/// Returns whether all were closed.
pub async fn serve<S>(
    listener: Listener,
    service: S,
    mut shutdown: watch::Receiver<bool>,
    drain: Duration,
) -> bool
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    // Each connection holds a sender: the channel closes with the last of them.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Stream::Tcp(stream)) => {
                tokio::spawn(connection(
                    stream,
                    service.clone(),
                    shutdown.clone(),
                    open.clone(),
                ));
            }
            Ok(Stream::Unix(stream)) => {
                tokio::spawn(connection(
                    stream,
                    service.clone(),
                    shutdown.clone(),
                    open.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(open);
    timeout(drain, all_closed.recv()).await.is_ok()
}

/// Waits until it is time to stop, which it also is when nobody is left to say so.
async fn stopping(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// One connection, from its first byte to its last; `_open` is dropped with it.
async fn connection<C, S>(
    stream: C,
    service: S,
    mut shutdown: watch::Receiver<bool>,
    _open: mpsc::Sender<Infallible>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        // A caller that has said all it will say may close its side and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
