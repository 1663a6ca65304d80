//! What a connection waits for: the head of a request, or that its caller takes an answer. Its task notes it here
//! with next to no work for a request; the timeouts are computed from it when the connection's alarm goes off, and
//! [`super::room`] reads it when another connection needs the place.
//!
//! In either case the caller is waited for, and never the other way round: such a connection may be closed at any
//! moment without a request that is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Limits;

/// How long a connection lies idle before its buffers are given back: hyper keeps some 10 kB for each, which is
/// little for those at work and much for all that callers keep open.
const REST: Duration = Duration::from_secs(1);

/// How often a connection is looked at that does not end while the server stops.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Milliseconds since [`Waiting::clock`] that never come.
const NEVER: u64 = u64::MAX;

/// Nothing of the head has come, or all of the answer has gone.
const NO: u8 = 0;
/// Something has come, or could not go, since the alarm went off last.
const NEW: u8 = 1;
/// The alarm knows since when.
const SEEN: u8 = 2;

/// Shared by a connection's task, its stream, the timers that hyper makes for it, and its worker.
pub(super) struct Waiting {
    /// The worker's beginning, from which all its instants are counted.
    clock: Instant,
    /// Since when a head is waited for, or [`NEVER`].
    since: AtomicU64,
    /// Whether anything of that head has come.
    head: AtomicU8,
    /// Since when, if the alarm knows.
    begun: AtomicU64,
    /// Whether the kernel has not yet taken all of an answer.
    answer: AtomicU8,
    /// Since when, if the alarm knows.
    stuck: AtomicU64,
    /// How many places of its worker are taken, and whether this one's is no more.
    taken: Arc<AtomicUsize>,
    has_left: AtomicBool,
}

/// What an alarm was for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A head has not come in time.
    HeadOverdue,
    /// Nothing of an answer was taken in time.
    AnswerOverdue,
    /// Nothing has come and nothing is to go for a while.
    Rest,
}

impl Waiting {
    /// Waits for a head from now on.
    pub(super) fn new(clock: Instant, taken: Arc<AtomicUsize>) -> Self {
        let waiting = Self {
            clock,
            since: AtomicU64::new(NEVER),
            head: AtomicU8::new(NO),
            begun: AtomicU64::new(NEVER),
            answer: AtomicU8::new(NO),
            stuck: AtomicU64::new(NEVER),
            taken,
            has_left: AtomicBool::new(false),
        };
        waiting.expect(Instant::now());
        waiting
    }

    /// A head is waited for, since `since`.
    pub(super) fn expect(&self, since: Instant) {
        self.since.store(self.at(since), Ordering::Relaxed);
        self.head.store(NO, Ordering::Relaxed);
    }

    /// No head is waited for.
    pub(super) fn expect_nothing(&self) {
        self.since.store(NEVER, Ordering::Relaxed);
    }

    /// Something of a head has come.
    pub(super) fn has_read(&self) {
        if self.head.load(Ordering::Relaxed) == NO {
            self.head.store(NEW, Ordering::Relaxed);
        }
    }

    /// The kernel has taken something of an answer, or would not.
    pub(super) fn has_written(&self, is_stuck: bool) {
        match is_stuck {
            false => self.answer.store(NO, Ordering::Relaxed),
            true if self.answer.load(Ordering::Relaxed) == NO => {
                self.answer.store(NEW, Ordering::Relaxed);
            }
            true => {}
        }
    }

    /// Since when a head is waited for; now, if none is.
    pub(super) fn head_since(&self) -> Instant {
        match self.since.load(Ordering::Relaxed) {
            NEVER => Instant::now(),
            since => self.instant(since),
        }
    }

    /// Since when the caller is waited for, in milliseconds of the worker's clock. `None` while a request is under
    /// way.
    pub(super) fn caller_since(&self) -> Option<u64> {
        let head = Some(self.since.load(Ordering::Relaxed)).filter(|since| *since != NEVER);
        head.or_else(|| {
            let is_stuck = self.answer.load(Ordering::Relaxed) == SEEN;
            is_stuck.then(|| self.stuck.load(Ordering::Relaxed))
        })
    }

    /// When the alarm should go off the first time.
    pub(super) fn first_alarm(&self, limits: &Limits) -> Instant {
        Instant::now() + tick(limits)
    }

    /// What the alarm, which has gone off, was for, or when it should go off next.
    pub(super) fn look(&self, limits: &Limits) -> Result<Instant, Alarm> {
        let now = self.at(Instant::now());
        let mut next = now + millis(tick(limits));
        // Whether what `mark` says has lasted too long; a mark that is new counts from here on.
        let mut is_overdue = |mark: &AtomicU8, noted: &AtomicU64, timeout: Duration| {
            if mark.load(Ordering::Relaxed) == NEW {
                noted.store(now, Ordering::Relaxed);
                mark.store(SEEN, Ordering::Relaxed);
            }
            let due = noted.load(Ordering::Relaxed) + millis(timeout);
            next = next.min(due);
            due <= now
        };
        let since = self.since.load(Ordering::Relaxed);
        if self.answer.load(Ordering::Relaxed) != NO {
            if is_overdue(&self.answer, &self.stuck, limits.write_timeout) {
                return Err(Alarm::AnswerOverdue);
            }
        } else if since != NEVER && self.head.load(Ordering::Relaxed) != NO {
            if is_overdue(&self.head, &self.begun, limits.header_timeout) {
                return Err(Alarm::HeadOverdue);
            }
        } else if since != NEVER {
            let rests = since + millis(tick(limits));
            if rests <= now {
                return Err(Alarm::Rest);
            }
            next = next.min(rests);
        }
        Ok(self.instant(next))
    }

    /// The same for a server that stops, whose patience with callers is over.
    pub(super) fn look_last(&self) -> Result<Instant, Alarm> {
        if self.answer.load(Ordering::Relaxed) != NO {
            return Err(Alarm::AnswerOverdue);
        }
        if self.since.load(Ordering::Relaxed) != NEVER {
            return Err(Alarm::HeadOverdue);
        }
        Ok(Instant::now() + DRAIN_TICK)
    }

    /// Gives the place back; only the first call does.
    pub(super) fn leave(&self) {
        if !self.has_left.swap(true, Ordering::Relaxed) {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    fn at(&self, instant: Instant) -> u64 {
        millis(instant.saturating_duration_since(self.clock))
    }

    fn instant(&self, at: u64) -> Instant {
        self.clock + Duration::from_millis(at)
    }
}

/// How often a connection at work is looked at: no timeout is noticed later than by this.
fn tick(limits: &Limits) -> Duration {
    REST.min(limits.header_timeout)
        .min(limits.idle_timeout)
        .min(limits.write_timeout)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER - 1)
}
