//! One thread a core, each with a runtime of its own: a connection stays with the worker that got it, so nothing
//! that serves a request is handed from one core to another.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::listener::Stream;
use super::{Answers, connection};

/// The workers, as the accepting side sees them. Dropped, it lets them finish.
pub(super) struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    connections: mpsc::UnboundedSender<Handed>,
    load: Arc<AtomicUsize>,
    /// Resolves when the worker has ended, to whether all its connections were closed.
    ended: oneshot::Receiver<bool>,
}

/// A connection on its way to its worker.
struct Handed {
    stream: Stream,
    /// Which of the worker's services it is for.
    service: usize,
    load: Load,
}

/// A connection counted with its worker until it is dropped.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts a worker for each element of `services`, which has a service for each listener, each with its companion.
    pub(super) fn start<S: Answers>(
        services: Vec<Vec<S>>,
        companions: Vec<impl Future<Output = ()> + Send + 'static>,
        shutdown: &watch::Receiver<bool>,
        drain: Duration,
    ) -> io::Result<Self> {
        let start = |(number, (services, companion)): (usize, (Vec<S>, _))| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_start(step_back)
                .build()?;
            let (connections, handed) = mpsc::unbounded_channel();
            let (end, ended) = oneshot::channel();
            let shutdown = shutdown.clone();
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.spawn(companion);
                    let all_closed = runtime.block_on(work(handed, &services, &shutdown, drain));
                    // A count that is still under way, on a thread of its own, is not waited for.
                    runtime.shutdown_background();
                    let _ = end.send(all_closed);
                })?;
            Ok(Worker {
                connections,
                load: Arc::default(),
                ended,
            })
        };
        let workers = services
            .into_iter()
            .zip(companions)
            .enumerate()
            .map(start)
            .collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    /// Hands a connection to the worker that has the fewest.
    pub(super) fn hand(&self, stream: Stream, service: usize) {
        let least = self
            .workers
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        if let Some(worker) = least {
            worker.load.fetch_add(1, Ordering::Relaxed);
            let load = Load(Arc::clone(&worker.load));
            // A worker ends only after this side has let it; a failure would close the connection.
            let _ = worker.connections.send(Handed {
                stream,
                service,
                load,
            });
        }
    }

    /// Lets the workers finish; whether all connections were closed in time.
    pub(super) async fn finish(self) -> bool {
        let (channels, ended): (Vec<_>, Vec<_>) = self
            .workers
            .into_iter()
            .map(|worker| (worker.connections, worker.ended))
            .unzip();
        drop(channels);
        let mut all_closed = true;
        for worker in ended {
            all_closed &= worker.await.unwrap_or(false);
        }
        all_closed
    }
}

/// What a new thread for work that waits does first: it leaves the processor to the workers where there is not enough
/// for all, so that one caller's long counts don't slow the short ones of the others.
fn step_back() {
    const NICE: i32 = 5; // a third of a worker's share
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// A worker's life: until nobody can hand it a connection any more, and those it has are closed or `drain` has
/// passed.
async fn work<S: Answers>(
    mut handed: mpsc::UnboundedReceiver<Handed>,
    services: &[S],
    shutdown: &watch::Receiver<bool>,
    drain: Duration,
) -> bool {
    // Each connection holds a sender: the channel closes with the last of them.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    while let Some(Handed {
        stream,
        service,
        load,
    }) = handed.recv().await
    {
        let (service, shutdown, open) = (services[service].clone(), shutdown.clone(), open.clone());
        tokio::spawn(async move {
            let _counted = (load, open);
            let served = async {
                match stream {
                    Stream::Tcp(stream) => {
                        connection::serve(TcpStream::from_std(stream)?, service, shutdown).await
                    }
                    Stream::Unix(stream) => {
                        connection::serve(UnixStream::from_std(stream)?, service, shutdown).await
                    }
                }
                io::Result::Ok(())
            };
            if let Err(error) = served.await {
                tracing::warn!(%error, "a connection could not be served");
            }
        });
    }
    drop(open);
    timeout(drain, all_closed.recv()).await.is_ok()
}
