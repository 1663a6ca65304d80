//! How long something took, counted by classes of duration.
//!
//! Each class ends at twice the duration of the one before it, so that the class of a duration is the number of its
//! digits in base two: a handful of instructions, with no search and no table. A quantile read from such classes is
//! right within a factor of two, wherever it lies between a microsecond and the last class.

use std::time::Duration;

use super::{Counter, PerWorker};

/// How many classes have an end: the last at 2^24 µs, which is 17 s and longer than any request may take.
const ENDS: usize = 25;

/// One thread's counts.
#[derive(Debug)]
pub struct Times {
    /// By class; the last one is of all that took longer.
    classes: [Counter; ENDS + 1],
    nanos: Counter,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| Counter::default()),
            nanos: Counter::default(),
        }
    }
}

impl Times {
    /// Only the thread that the counts belong to may call this.
    pub fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.classes[class(nanos)].add_one();
        self.nanos.add(nanos);
    }
}

/// The first class whose end is not before so many nanoseconds.
fn class(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1_000);
    let digits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    (digits as usize).min(ENDS)
}

/// The sums over all workers.
#[derive(Debug)]
pub struct Distribution {
    /// The end of each class, in seconds, and how many were in it; the last has no end.
    pub classes: Vec<(f64, u64)>,
    pub seconds: f64,
}

impl Distribution {
    pub fn of<T>(workers: &PerWorker<T>, times: impl Fn(&T) -> &Times) -> Self {
        let count = |class: usize| workers.sum(|worker| &times(worker).classes[class]);
        let end = |class: usize| match class {
            ENDS => f64::MAX,
            class => (1_u64 << class) as f64 / 1e6,
        };
        Self {
            classes: (0..=ENDS).map(|class| (end(class), count(class))).collect(),
            seconds: workers.sum(|worker| &times(worker).nanos) as f64 / 1e9,
        }
    }

    pub fn count(&self) -> u64 {
        self.classes.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_class_that_does_not_end_before_it() {
        for (nanos, wanted) in [
            (0, 0),
            (1, 0),
            (1_000, 0),
            (1_001, 1),
            (2_000, 1),
            (2_001, 2),
            (4_000, 2),
            (4_001, 3),
            (1_024_000, 10),
            (1_024_001, 11),
            (16_777_216_000, 24),
            (16_777_216_001, 25),
            (u64::MAX, 25),
        ] {
            assert_eq!(class(nanos), wanted, "{nanos}");
        }
    }

    #[test]
    fn all_workers_are_in_the_distribution() {
        let workers: PerWorker<Times> = PerWorker::new(2);
        for (worker, micros) in [(0, 1), (1, 1), (1, 3), (0, 3_000_000), (0, 40_000_000)] {
            workers.of(worker).count(Duration::from_micros(micros));
        }
        let distribution = Distribution::of(&workers, |times| times);
        let counted: Vec<(f64, u64)> = distribution
            .classes
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            counted,
            [(1e-6, 2), (4e-6, 1), (4.194_304, 1), (f64::MAX, 1)]
        );
        assert_eq!(
            (distribution.count(), distribution.seconds),
            (5, 43.000_005)
        );
    }
}
