//! One connection, from its first byte to its last: hyper's state machine, and the two things that end it from
//! outside, time and drain.
//!
//! Both are looked at whenever the connection is, which is for each request, so both are made to cost next to
//! nothing there. hyper asks for a new timer with every head that it reads; a runtime's timer is put into a wheel and
//! taken out again. Here one timer of the runtime serves the whole connection: [`HeadTimer`] only notes the deadline
//! that hyper wants, and the runtime's timer is moved when it goes off too early. And the order to stop comes over a
//! channel that all connections wait at, under one lock: it is asked once, to be woken by it, and then only after it
//! has changed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Answers, stopping};

/// How long a connection may take to send the head of a request, and how long it may lie idle before one:
/// hyper counts both by one clock.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes. Beyond it hyper answers an empty 431; the limits of `api`, which
/// answer a Problem, lie well below. So does its limit of header fields below hyper's own, 100.
const MAX_HEAD: usize = 64 * 1024;

/// Serves the requests of `stream` until its end, until a head takes too long, or until `shutdown` turns true and the
/// request under way is answered.
pub(super) async fn serve<C, S>(stream: C, service: S, mut shutdown: watch::Receiver<bool>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Answers,
{
    let head = Arc::new(Head::default());
    let connection = http1::Builder::new()
        .timer(HeadTimer(Arc::clone(&head)))
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        // One small answer is copied into the head's buffer sooner than the kernel takes two pieces.
        .writev(false)
        // A caller that has said all it will say may close its side and still wait for the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut alarm = pin!(sleep(HEAD_TIMEOUT));
    let orders = shutdown.clone();
    let mut stop = pin!(stopping(&mut shutdown));
    let mut waits_for_orders = false;
    let mut is_stopping = false;
    let served = poll_fn(|cx| {
        if !is_stopping && (!waits_for_orders || orders.has_changed().unwrap_or(true)) {
            waits_for_orders = true;
            is_stopping = stop.as_mut().poll(cx).is_ready();
            if is_stopping {
                connection.as_mut().graceful_shutdown();
            }
        }
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            // Once that is so, hyper finds its timer gone off.
            ready!(head.poll_overdue(alarm.as_mut(), cx));
        }
    });
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Whether hyper waits for a head, and until when: shared by a connection and the timers that hyper makes for it.
struct Head {
    /// The connection's beginning.
    since: Instant,
    /// Milliseconds from then to the deadline, or one of the two below.
    due: AtomicU64,
}

/// No head is waited for.
const NONE: u64 = u64::MAX;
/// It has not come in time.
const OVERDUE: u64 = 0;

impl Default for Head {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            due: AtomicU64::new(NONE),
        }
    }
}

impl Head {
    fn expect_by(&self, deadline: Instant) {
        let due = deadline.saturating_duration_since(self.since).as_millis();
        let due = u64::try_from(due).unwrap_or(NONE - 1);
        self.due.store(due.max(OVERDUE + 1), Ordering::Relaxed);
    }

    /// Ready once the head has not come in time. `alarm` goes off no later than that: every deadline is
    /// [`HEAD_TIMEOUT`] away when it is set, and so is the alarm.
    fn poll_overdue(
        &self,
        mut alarm: Pin<&mut tokio::time::Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            ready!(alarm.as_mut().poll(cx));
            let now = Instant::now();
            let next = match self.due.load(Ordering::Relaxed) {
                NONE => now + HEAD_TIMEOUT,
                due => self.since + Duration::from_millis(due),
            };
            if next <= now {
                self.due.store(OVERDUE, Ordering::Relaxed);
                return Poll::Ready(());
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
