//! One connection, from its first byte to its last: hyper's state machine, and the two things that end it from
//! outside, time and drain.
//!
//! Both are looked at whenever the connection is, which is for each request, so both are made to cost next to
//! nothing there. hyper asks for a new timer with every head that it reads; a runtime's timer is put into a wheel and
//! taken out again. Here one timer of the runtime serves the whole connection: [`HeadTimer`] only notes the deadline
//! that hyper wants, and the runtime's timer is moved when it goes off too early. And the order to stop comes over a
//! channel that all connections wait at, under one lock: it is asked once, to be woken by it, and then only after it
//! has changed.
//!
//! A connection without a request, before the first or a while after the last, is nothing but its stream: hyper and
//! its buffers are made when something comes, so that ten thousand callers may keep connections open.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hyper::body::Bytes;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};

use super::{Answers, memory, stopping};

/// How long a connection may lie idle, and how long it may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes. Beyond it hyper answers an empty 431; the limits of `api`, which
/// answer a Problem, lie well below. So does its limit of header fields below hyper's own, 100.
const MAX_HEAD: usize = 64 * 1024;

/// How long a connection lies idle before its buffers are given back: hyper keeps some 10 kB for each, which is
/// little for those at work and much for all that callers keep open.
const REST: Duration = Duration::from_secs(1);

/// How long a connection is young: its caller is about to send its first request, and gets its answer even where the
/// server has begun to stop. Older ones that lie idle are closed then.
const YOUTH: Duration = Duration::from_millis(500);

/// A stream that can be waited for without a buffer to read into.
pub(super) trait Readable: AsyncRead + AsyncWrite + Unpin {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl Readable for UnixStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

/// Serves the requests of `stream` until its end, until a head takes too long, or until `shutdown` turns true and the
/// request under way is answered.
pub(super) async fn serve<C, S>(stream: C, service: S, mut shutdown: watch::Receiver<bool>)
where
    C: Readable,
    S: Answers,
{
    let mut idle = Idle {
        stream,
        unread: Bytes::new(),
        until: Instant::now() + HEAD_TIMEOUT,
    };
    let young_until = Instant::now() + YOUTH;
    loop {
        let mut readable = pin!(poll_fn(|cx| idle.stream.poll_readable(cx)));
        let readable = tokio::select! {
            biased;
            () = stopping(&mut shutdown) => timeout_at(young_until.into(), readable).await,
            readable = timeout_at(idle.until.into(), &mut readable) => readable,
        };
        if !matches!(readable, Ok(Ok(()))) {
            return;
        }
        // Boxed, so that a connection that rests has no room for one at work.
        match Box::pin(work(idle, service.clone(), &mut shutdown)).await {
            Some(rested) => idle = rested,
            None => return,
        }
    }
}

/// A connection that waits for a request.
struct Idle<C> {
    stream: C,
    /// What has been read of it already.
    unread: Bytes,
    /// When it has waited long enough.
    until: Instant,
}

/// Serves requests until the connection ends (`None`) or lies idle.
async fn work<C, S>(
    idle: Idle<C>,
    service: S,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<Idle<C>>
where
    C: Readable,
    S: Answers,
{
    let head = Arc::new(Head::default());
    let stream = Watched {
        stream: idle.stream,
        unread: idle.unread,
        head: Arc::clone(&head),
    };
    let mut connection = http1::Builder::new()
        .timer(HeadTimer(Arc::clone(&head)))
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        // One small answer is copied into the head's buffer sooner than the kernel takes two pieces.
        .writev(false)
        // A caller that has said all it will say may close its side and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut alarm = pin!(sleep(REST));
    let orders = shutdown.clone();
    let mut stop = pin!(stopping(shutdown));
    let mut waits_for_orders = false;
    let mut is_stopping = false;
    let served = poll_fn(|cx| {
        if !is_stopping && (!waits_for_orders || orders.has_changed().unwrap_or(true)) {
            waits_for_orders = true;
            is_stopping = stop.as_mut().poll(cx).is_ready();
            if is_stopping {
                // What has come by then is answered: hyper, told first, would close a connection that it has not read.
                if let Poll::Ready(ended) = connection.poll_unpin(cx) {
                    return Poll::Ready(Some(ended));
                }
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        loop {
            if let Poll::Ready(ended) = connection.poll_unpin(cx) {
                return Poll::Ready(Some(ended));
            }
            match ready!(head.poll_alarm(alarm.as_mut(), cx)) {
                // hyper now finds its timer gone off.
                Alarm::Overdue => {}
                Alarm::Idle if is_stopping => return Poll::Pending, // hyper is about to end it
                Alarm::Idle => return Poll::Ready(None),
            }
        }
    });
    match served.await {
        Some(ended) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            None
        }
        None => {
            let until = head.deadline();
            let parts = connection.into_parts();
            memory::given_back();
            Some(Idle {
                stream: parts.io.into_inner().stream,
                unread: parts.read_buf,
                until,
            })
        }
    }
}

/// The stream as hyper reads and writes it, under the eyes of [`Head`].
struct Watched<C> {
    stream: C,
    unread: Bytes,
    head: Arc<Head>,
}

impl<C: AsyncRead + Unpin> AsyncRead for Watched<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.head.has_begun.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Watched<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.head
            .is_blocked
            .store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether hyper waits for a head, and until when: shared by a connection, its stream and the timers that hyper makes
/// for it.
struct Head {
    /// The connection's beginning.
    since: Instant,
    /// Milliseconds from then to the deadline, or one of the two below.
    due: AtomicU64,
    /// Whether anything of the head has come.
    has_begun: AtomicBool,
    /// Whether the kernel has not yet taken all of an answer.
    is_blocked: AtomicBool,
}

/// No head is waited for.
const NONE: u64 = u64::MAX;
/// It has not come in time.
const OVERDUE: u64 = 0;

/// What an alarm was for.
enum Alarm {
    /// A head has not come in time.
    Overdue,
    /// Nothing has come and nothing is to go for [`REST`].
    Idle,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            due: AtomicU64::new(NONE),
            has_begun: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
        }
    }
}

impl Head {
    fn expect_by(&self, deadline: Instant) {
        let due = deadline.saturating_duration_since(self.since).as_millis();
        let due = u64::try_from(due).unwrap_or(NONE - 1);
        self.due.store(due.max(OVERDUE + 1), Ordering::Relaxed);
        self.has_begun.store(false, Ordering::Relaxed);
    }

    /// Until when a head is waited for, if one is.
    fn deadline(&self) -> Instant {
        self.since + Duration::from_millis(self.due.load(Ordering::Relaxed))
    }

    /// Ready once something is to be done; until then `alarm` is moved on, so that it never goes off too late.
    fn poll_alarm(
        &self,
        mut alarm: Pin<&mut tokio::time::Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<Alarm> {
        loop {
            ready!(alarm.as_mut().poll(cx));
            let now = Instant::now();
            let mut next = now + REST;
            if self.due.load(Ordering::Relaxed) != NONE {
                let deadline = self.deadline();
                if deadline <= now {
                    self.due.store(OVERDUE, Ordering::Relaxed);
                    return Poll::Ready(Alarm::Overdue);
                }
                let rests = deadline - HEAD_TIMEOUT + REST;
                let is_idle = !self.has_begun.load(Ordering::Relaxed)
                    && !self.is_blocked.load(Ordering::Relaxed);
                if is_idle && rests <= now {
                    return Poll::Ready(Alarm::Idle);
                }
                next = if is_idle { rests } else { next.min(deadline) };
            }
            alarm.as_mut().reset(next.into());
        }
    }
}

/// What hyper asks for timers.
struct HeadTimer(Arc<Head>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.expect_by(deadline);
        Box::pin(HeadSleep(Arc::clone(&self.0)))
    }
}

/// A timer of hyper's: it lives while a head is waited for.
struct HeadSleep(Arc<Head>);

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    /// The connection is looked at again when the alarm has gone off: no waker is kept here.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.due.load(Ordering::Relaxed) {
            OVERDUE => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.0.due.store(NONE, Ordering::Relaxed);
    }
}
