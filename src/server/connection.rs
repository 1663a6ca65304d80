//! One connection, from its first byte to its last: hyper's state machine, and the two things that end it from
//! outside, time and drain.
//!
//! Both are looked at whenever the connection is, which is for each request, so both are made to cost next to
//! nothing there. hyper asks for a new timer with every head that it reads; a runtime's timer is put into a wheel and
//! taken out again. Here one timer of the runtime, the alarm, serves the whole connection: [`HeadTimer`] only notes
//! in [`Waiting`] that hyper waits, and the alarm is moved when it goes off too early. And the order to stop comes
//! over a channel that all connections wait at, under one lock: it is asked once, to be woken by it, and then only
//! after it has changed.
//!
//! A connection without a request, before the first or a while after the last, is nothing but its stream: hyper and
//! its buffers are made when something comes, so that ten thousand callers may keep connections open.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
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
use tokio::time::{sleep_until, timeout, timeout_at};

use super::waiting::{Alarm, Waiting};
use super::{Answers, Limits, memory, stopping};

/// What hyper is told of the time that a head may take. It is not what ends a connection: [`Waiting`] is.
const HEAD_NEVER: Duration = Duration::from_secs(24 * 3600);

/// How long a server that stops waits for callers: for the rest of a head, or that an answer is taken.
const GRACE: Duration = Duration::from_secs(1);

/// How long is read, and thrown away, what a caller still sends after the last answer. A connection that is closed
/// over bytes unread is reset, and the reset can take the answer from a caller that has not read it yet (RFC 9112
/// section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// How long a connection is young: its caller is about to send its first request, and gets its answer even where the
/// server has begun to stop. Older ones that lie idle are closed then.
const YOUTH: Duration = Duration::from_millis(500);

/// A stream that can be waited for without a buffer to read into.
pub(super) trait Readable: AsyncRead + AsyncWrite + Unpin {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has what the kernel still holds for the caller thrown away when the stream is dropped.
    fn forget_unsent(&self);
}

impl Readable for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn forget_unsent(&self) {
        let _ = self.set_zero_linger();
    }
}

impl Readable for UnixStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    /// What was sent is the caller's already.
    fn forget_unsent(&self) {}
}

/// Serves the requests of `stream` until its end, until its caller has been waited for too long, or until `shutdown`
/// turns true and the request under way is answered.
pub(super) async fn serve<C, S>(
    stream: C,
    service: S,
    waiting: Arc<Waiting>,
    limits: Arc<Limits>,
    mut shutdown: watch::Receiver<bool>,
) where
    C: Readable,
    S: Answers,
{
    let mut idle = Idle {
        until: waiting.head_since() + limits.header_timeout,
        stream,
        unread: Bytes::new(),
    };
    let young_until = Instant::now() + YOUTH;
    loop {
        let mut readable = pin!(poll_fn(|cx| idle.stream.poll_readable(cx)));
        let is_readable = tokio::select! {
            biased;
            // What has come by then, or comes from one who has just connected, is still answered.
            () = stopping(&mut shutdown) => {
                matches!(timeout_at(young_until.into(), readable).await, Ok(Ok(())))
            }
            readable = timeout_at(idle.until.into(), &mut readable) => matches!(readable, Ok(Ok(()))),
        };
        if !is_readable {
            return end(idle.stream);
        }
        // Boxed, so that a connection that rests has no room for one at work.
        let worked = work(idle, service.clone(), &waiting, &limits, &mut shutdown);
        match Box::pin(worked).await {
            Worked::Rests(rested) => idle = rested,
            Worked::MaySend(stream) => {
                return Box::pin(linger(stream, &waiting, &mut shutdown)).await;
            }
            Worked::Ended => return,
        }
    }
}

/// Ends the connection.
fn end<C: Readable>(mut stream: C) {
    say_end(&mut stream);
}

/// Ends this side of the connection. Under TLS that is something to say, so that the caller can tell an end from a cut;
/// it is tried once, because nobody waits for a caller who takes nothing.
fn say_end<C: Readable>(stream: &mut C) {
    let _ = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).now_or_never();
}

/// A connection that waits for a request.
struct Idle<C> {
    stream: C,
    /// What has been read of it already.
    unread: Bytes,
    /// When it has waited long enough.
    until: Instant,
}

/// What is left of a connection that was at work.
enum Worked<C> {
    /// It lies idle.
    Rests(Idle<C>),
    /// It has had its last answer, but its caller has not ended its side.
    MaySend(C),
    Ended,
}

/// Serves requests until the connection ends or lies idle.
async fn work<C, S>(
    idle: Idle<C>,
    service: S,
    waiting: &Arc<Waiting>,
    limits: &Limits,
    shutdown: &mut watch::Receiver<bool>,
) -> Worked<C>
where
    C: Readable,
    S: Answers,
{
    let stream = Watched {
        stream: idle.stream,
        unread: idle.unread,
        has_ended: false,
        waiting: Arc::clone(waiting),
    };
    let mut connection = http1::Builder::new()
        .timer(HeadTimer(Arc::clone(waiting)))
        .header_read_timeout(HEAD_NEVER)
        .max_buf_size(limits.head_bytes)
        // One small answer is copied into the head's buffer sooner than the kernel takes two pieces.
        .writev(false)
        // A caller that has said all it will say may close its side and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut alarm = pin!(sleep_until(waiting.first_alarm(limits).into()));
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
                    return Poll::Ready(Ok(ended));
                }
                Pin::new(&mut connection).graceful_shutdown();
                alarm.as_mut().reset((Instant::now() + GRACE).into());
            }
        }
        loop {
            if let Poll::Ready(ended) = connection.poll_unpin(cx) {
                return Poll::Ready(Ok(ended));
            }
            ready!(alarm.as_mut().poll(cx));
            let looked = match is_stopping {
                false => waiting.look(limits),
                true => waiting.look_last(),
            };
            match looked {
                Ok(next) => alarm.as_mut().reset(next.into()),
                Err(alarm) => return Poll::Ready(Err(alarm)),
            }
        }
    });
    let served = served.await;
    // hyper ends its wait for a head when it is dropped.
    let since = waiting.head_since();
    let parts = connection.into_parts();
    let watched = parts.io.into_inner();
    match served {
        Ok(ended) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
            if !watched.has_ended && !is_stopping {
                return Worked::MaySend(watched.stream);
            }
            end(watched.stream);
            Worked::Ended
        }
        Err(Alarm::Rest) => {
            waiting.expect(since);
            memory::given_back();
            Worked::Rests(Idle {
                stream: watched.stream,
                unread: parts.read_buf,
                until: since + limits.idle_timeout,
            })
        }
        Err(Alarm::HeadOverdue) => {
            tracing::debug!("a connection ended: the head of a request did not come in time");
            end(watched.stream);
            Worked::Ended
        }
        Err(Alarm::AnswerOverdue) => {
            tracing::debug!("a connection ended: an answer was not taken in time");
            watched.stream.forget_unsent();
            Worked::Ended
        }
    }
}

/// Reads what the caller of a connection still sends after the last answer, until it ends its side, for a while.
async fn linger<C: Readable>(
    mut stream: C,
    waiting: &Waiting,
    shutdown: &mut watch::Receiver<bool>,
) {
    waiting.expect(Instant::now());
    // hyper has done so, unless it took what came for no request at all.
    say_end(&mut stream);
    let mut bytes = [0; 4096];
    let ended = poll_fn(|cx| {
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    });
    tokio::select! {
        biased;
        () = stopping(shutdown) => {}
        _ = timeout(LINGER, ended) => {}
    }
}

/// The stream as hyper reads and writes it, under the eyes of [`Waiting`].
struct Watched<C> {
    stream: C,
    unread: Bytes,
    /// Whether the caller has ended its side.
    has_ended: bool,
    waiting: Arc<Waiting>,
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
            self.waiting.has_read();
        } else if polled.is_ready() {
            self.has_ended = true;
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
        self.waiting.has_written(polled.is_pending());
        polled
    }

    /// TLS takes bytes before the kernel does, and then holds them until here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.waiting.has_written(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What hyper asks for timers: it does so for each head that it waits for, and for nothing else.
struct HeadTimer(Arc<Waiting>);

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.expect(deadline - HEAD_NEVER);
        Box::pin(HeadSleep(Arc::clone(&self.0)))
    }
}

/// A timer of hyper's: it lives while a head is waited for, and never goes off.
struct HeadSleep(Arc<Waiting>);

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for HeadSleep {
    fn drop(&mut self) {
        self.0.expect_nothing();
    }
}
