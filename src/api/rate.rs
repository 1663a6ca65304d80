//! How many requests a second a key may make: `max_rate`, over all workers together.
//!
//! The generic cell rate algorithm of governor: a key may make as many requests at once as its rate is for one
//! second, and gets that allowance back evenly, one request after another. So over any T seconds at most
//! `rate * T + rate` requests pass. The state is one number, which workers compare and swap; a key without a rate
//! has none.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// After how many seconds a request that was over the rate may be sent again: by then there is room for one, since no
/// rate is lower than one request a second.
pub(super) const RETRY_AFTER: u32 = 1;

/// The rate of one key. Clocks other than the machine's are for tests.
pub(super) struct Limit<C: Clock = MonotonicClock> {
    pub(super) max_rate: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
}

impl Limit {
    pub(super) fn new(max_rate: NonZeroU32) -> Self {
        Self::with_clock(max_rate, MonotonicClock)
    }
}

impl<C: Clock> Limit<C> {
    fn with_clock(max_rate: NonZeroU32, clock: C) -> Self {
        // Rounded up, so that the rate is never passed: by a millionth at 1,000 requests a second.
        let nanoseconds = 1_000_000_000_u64.div_ceil(u64::from(max_rate.get()));
        let quota = Quota::with_period(Duration::from_nanos(nanoseconds))
            .unwrap_or_else(|| Quota::per_second(max_rate)) // only a period of zero is none
            .allow_burst(max_rate);
        Self {
            max_rate,
            limiter: RateLimiter::direct_with_clock(quota, clock),
        }
    }

    /// Takes one request off the allowance; `false` where there is none left.
    pub(super) fn admits(&self) -> bool {
        self.limiter.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    fn rate(rate: u32) -> NonZeroU32 {
        NonZeroU32::new(rate).unwrap()
    }

    proptest! {
        /// Requests come whenever they like: between any two instants no more pass than the rate allows, and a
        /// request after `RETRY_AFTER` passes.
        #[test]
        fn no_more_pass_than_the_rate_allows(
            max_rate in prop_oneof![1..50_u32, 1..1_000_000_u32],
            gaps in prop::collection::vec(
                prop_oneof![Just(0_u64), 0..2_000_u64, 0..50_000_000_u64, 0..3_000_000_000_u64],
                1..400,
            ),
        ) {
            let clock = FakeRelativeClock::default();
            let limit = Limit::with_clock(rate(max_rate), clock.clone());
            let (mut now, mut passed) = (0_u64, Vec::new());
            for gap in gaps {
                clock.advance(Duration::from_nanos(gap));
                now += gap;
                if limit.admits() {
                    passed.push(now);
                } else {
                    prop_assert!(!passed.is_empty(), "the first request is over the rate");
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128;
                    let allowed = u128::from(max_rate) * u128::from(end - start) / 1_000_000_000 + u128::from(max_rate);
                    prop_assert!(count <= allowed, "{count} passed in {} ns at {max_rate}/s", end - start);
                }
            }
            clock.advance(Duration::from_secs(RETRY_AFTER.into()));
            prop_assert!(limit.admits());
        }
    }

    #[test]
    fn a_second_without_requests_gives_a_seconds_worth_back() {
        let clock = FakeRelativeClock::default();
        let limit = Limit::with_clock(rate(10), clock.clone());
        let burst = || (0..100).filter(|_| limit.admits()).count();
        assert_eq!((burst(), burst()), (10, 0));
        clock.advance(Duration::from_millis(500));
        assert_eq!(burst(), 5);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(burst(), 10, "more than a second's worth is not saved up");
    }

    #[test]
    fn many_threads_together_get_what_one_would() {
        let clock = FakeRelativeClock::default();
        let limit = Limit::with_clock(rate(1_000), clock.clone());
        for (advance, most) in [(0, 1_000), (100, 100)] {
            clock.advance(Duration::from_millis(advance));
            let passed: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| (0..1_000).filter(|_| limit.admits()).count()))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            });
            assert_eq!(passed, most);
        }
    }
}
