//! One thread a core, each with a runtime of its own: a connection stays with the worker that got it, so nothing
//! that serves a request is handed from one core to another.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::listener::Stream;
use super::room::Room;
use super::waiting::Waiting;
use super::{Answers, Limits, connection, tls};

/// How many connections a worker may have on their way to it beyond its places. Accepting pauses then: what is not
/// accepted takes no descriptor.
pub const AHEAD: usize = 32;

/// How long accepting pauses for workers that can't keep up.
const PAUSE: Duration = Duration::from_millis(1);

/// The workers, as the accepting side sees them. Dropped, it lets them finish.
pub(super) struct Workers {
    workers: Vec<Worker>,
    /// Which of those that are as good as each other is next.
    next: Cell<usize>,
}

struct Worker {
    connections: mpsc::UnboundedSender<Handed>,
    /// How many connections it may have.
    most: usize,
    /// How many it has or is being handed.
    taken: Arc<AtomicUsize>,
    /// Resolves when the worker has ended, to whether all its connections were closed.
    ended: oneshot::Receiver<bool>,
}

/// A connection on its way to its worker.
struct Handed {
    stream: Stream,
    /// Which of the worker's services it is for.
    service: usize,
}

/// A connection's place, taken until this is dropped or it is given to another.
struct Place(Arc<Waiting>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Worker {
    /// How many more connections it may have, or how many it has too many.
    fn room(&self) -> isize {
        self.most as isize - self.taken.load(Ordering::Relaxed) as isize
    }
}

impl Workers {
    /// Starts a worker for each element of `services`, which has a service for each listener, each with its companion.
    pub(super) fn start<S: Answers>(
        services: Vec<Vec<S>>,
        companions: Vec<impl Future<Output = ()> + Send + 'static>,
        shutdown: &watch::Receiver<bool>,
        limits: &Limits,
    ) -> io::Result<Self> {
        let workers = services.len();
        let start = |(number, (services, companion)): (usize, (Vec<S>, _))| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_start(step_back)
                .build()?;
            let (connections, handed) = mpsc::unbounded_channel();
            let (end, ended) = oneshot::channel();
            let shutdown = shutdown.clone();
            let taken = Arc::new(AtomicUsize::new(0));
            let (first, rest) = (limits.connections / workers, limits.connections % workers);
            let most = first + usize::from(number < rest);
            // Each worker reads a copy of its own.
            let (limits, own) = (Arc::new(limits.clone()), Arc::clone(&taken));
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.spawn(companion);
                    let room = Room::new(most);
                    let working = work(handed, &services, room, &own, &limits, &shutdown);
                    let all_closed = runtime.block_on(working);
                    // A count that is still under way, on a thread of its own, is not waited for.
                    runtime.shutdown_background();
                    let _ = end.send(all_closed);
                })?;
            Ok(Worker {
                connections,
                most,
                taken,
                ended,
            })
        };
        let workers = services
            .into_iter()
            .zip(companions)
            .enumerate()
            .map(start)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            workers,
            next: Cell::new(0),
        })
    }

    /// Hands a connection to the worker that has the most room, once one can take it.
    pub(super) async fn hand(&self, stream: Stream, service: usize) {
        let next = self.next.get();
        self.next.set(next.wrapping_add(1));
        let worker = loop {
            let (before, after) = self.workers.split_at(next % self.workers.len());
            let of_use = after.iter().chain(before).filter(|worker| worker.most > 0);
            match of_use.max_by_key(|worker| worker.room()) {
                Some(worker) if worker.room() > -(AHEAD as isize) => break worker,
                _ => sleep(PAUSE).await,
            }
        };
        worker.taken.fetch_add(1, Ordering::Relaxed);
        // A worker ends only after this side has let it; a failure would close the connection.
        let _ = worker.connections.send(Handed { stream, service });
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

/// A worker's life: until nobody can hand it a connection any more, and those it has are closed or the time to drain
/// has passed.
async fn work<S: Answers>(
    mut handed: mpsc::UnboundedReceiver<Handed>,
    services: &[S],
    mut room: Room,
    taken: &Arc<AtomicUsize>,
    limits: &Arc<Limits>,
    shutdown: &watch::Receiver<bool>,
) -> bool {
    // Each connection holds a sender: the channel closes with the last of them.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    while let Some(Handed { stream, service }) = handed.recv().await {
        let waiting = Arc::new(Waiting::new(room.clock(), Arc::clone(taken)));
        let place = Place(Arc::clone(&waiting));
        let here = taken.load(Ordering::Relaxed).saturating_sub(handed.len());
        if !room.make(here) {
            continue; // closed at once: its caller knows, and may go to another server
        }
        let (service, limits) = (services[service].clone(), Arc::clone(limits));
        let (shutdown, open, watched) = (shutdown.clone(), open.clone(), Arc::clone(&waiting));
        let task = tokio::spawn(async move {
            let _held = (place, open);
            let served = async {
                match stream {
                    Stream::Tcp(stream) => {
                        let stream = TcpStream::from_std(stream)?;
                        connection::serve(stream, service, watched, limits, shutdown).await;
                    }
                    // Boxed, so that connections without TLS have no room for its handshake.
                    Stream::Tls(stream, config) => {
                        let stream = TcpStream::from_std(stream)?;
                        let served = tls::serve(stream, config, service, watched, limits, shutdown);
                        Box::pin(served).await;
                    }
                    Stream::Unix(stream) => {
                        let stream = UnixStream::from_std(stream)?;
                        connection::serve(stream, service, watched, limits, shutdown).await;
                    }
                }
                io::Result::Ok(())
            };
            if let Err(error) = served.await {
                tracing::warn!(%error, "a connection could not be served");
            }
        });
        room.add(waiting, task.abort_handle(), here);
    }
    drop((open, room));
    timeout(limits.drain_timeout, all_closed.recv())
        .await
        .is_ok()
}
