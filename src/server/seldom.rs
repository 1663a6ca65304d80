//! Log lines that whoever reaches a listener can bring about: one in a while, so that nobody fills the log with them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long after a line the next is held back.
const PERIOD: Duration = Duration::from_secs(10);

/// A kind of line.
pub(super) struct Seldom(Mutex<State>);

struct State {
    next: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State {
            next: None,
            unsaid: 0,
        }))
    }

    /// Whether a line is due, with how many were held back since the last. Nobody waits here: of two who come at the
    /// same time, one has nothing to say.
    pub(super) fn is_due(&self) -> Option<u64> {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.try_lock().ok()?;
        if state.next.is_some_and(|next| now < next) {
            state.unsaid += 1;
            return None;
        }
        state.next = Some(now + PERIOD);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_line_tells_how_many_were_held_back() {
        let seldom = Seldom::new();
        let now = Instant::now();
        assert_eq!(seldom.is_due_at(now), Some(0));
        assert_eq!(seldom.is_due_at(now), None);
        assert_eq!(
            seldom.is_due_at(now + PERIOD - Duration::from_millis(1)),
            None
        );
        assert_eq!(seldom.is_due_at(now + PERIOD), Some(2));
        assert_eq!(seldom.is_due_at(now + PERIOD * 2), Some(0));
    }
}
