//! What was committed, in order, and when: by it every answer of every node is judged.
//!
//! Each commit adds a session of the user `tick` and changes one other user. A node holds the first so many commits,
//! whatever it was copied through, and its count of `tick` tells how many. What it says of the others must fit to that.

use std::sync::Mutex;

use crate::clock::wall;

/// The users that commits change, beside `tick`.
pub(crate) const USERS: usize = 40;

/// The commits, numbered from 1. Instants are in milliseconds since 1970, rounded down, as a heartbeat is.
pub(crate) struct History(Mutex<Commits>);

struct Commits {
    commits: Vec<Commit>,
    /// Of each user how many sessions are live from which commit on.
    counts: Vec<Vec<(u64, u64)>>,
}

struct Commit {
    begun: i64,
    done: Option<i64>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Commits {
            commits: Vec::new(),
            counts: vec![vec![(0, 0)]; USERS],
        }))
    }

    /// A commit is about to be asked for, by which `user` has what `change` makes of its sessions. Returns its number.
    pub(crate) fn begin(&self, user: usize, change: impl FnOnce(u64) -> u64) -> u64 {
        let mut all = self.0.lock().unwrap();
        let begun = wall();
        all.commits.push(Commit { begun, done: None });
        let number = all.commits.len() as u64;
        let count = change(all.counts[user].last().unwrap().1);
        all.counts[user].push((number, count));
        number
    }

    /// The one that was begun last is done.
    pub(crate) fn done(&self) {
        let mut all = self.0.lock().unwrap();
        all.commits.last_mut().unwrap().done = Some(wall());
    }

    /// How many are begun, and how many of these are done.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let all = self.0.lock().unwrap();
        let begun = all.commits.len() as u64;
        let is_done = all.commits.last().is_none_or(|last| last.done.is_some());
        (begun, if is_done { begun } else { begun - 1 })
    }

    /// How many were done before an instant.
    pub(crate) fn done_before(&self, at: i64) -> u64 {
        let is_before = |commit: &Commit| commit.done.is_some_and(|done| done < at);
        self.0.lock().unwrap().commits.partition_point(is_before) as u64
    }

    /// How many were begun by an instant.
    pub(crate) fn begun_by(&self, at: i64) -> u64 {
        let is_by = |commit: &Commit| commit.begun <= at;
        self.0.lock().unwrap().commits.partition_point(is_by) as u64
    }

    /// For how many milliseconds, at an instant, whoever holds the first `held` commits has lacked another.
    pub(crate) fn age(&self, held: u64, at: i64) -> i64 {
        let all = self.0.lock().unwrap();
        let lacked = all.commits.get(usize::try_from(held).unwrap());
        let done = lacked.and_then(|commit| commit.done);
        done.map_or(0, |done| (at - done).max(0))
    }

    /// Whether a user has `count` sessions after one of the commits `from..=to`.
    pub(crate) fn is_right(&self, user: usize, count: u64, from: u64, to: u64) -> bool {
        let all = self.0.lock().unwrap();
        let counts = &all.counts[user];
        let after = |commit| counts.partition_point(|(number, _)| *number <= commit);
        // The one that holds at `from`, and those that came then.
        counts[after(from) - 1..after(to).max(after(from))]
            .iter()
            .any(|(_, right)| *right == count)
    }

    /// The commits after the first `held` are lost: others follow on these.
    pub(crate) fn lose_after(&self, held: u64) {
        let mut all = self.0.lock().unwrap();
        all.commits.truncate(usize::try_from(held).unwrap());
        for counts in &mut all.counts {
            counts.retain(|(number, _)| *number <= held);
        }
    }
}

/// A history that takes everything for right would find nothing: it is asked about answers that are known.
pub(crate) fn prove() {
    let history = History::new();
    for count in [1, 2, 0] {
        history.begin(0, |_| count);
        assert_eq!(
            history.numbers(),
            (history.numbers().1 + 1, history.numbers().1)
        );
        history.done();
        history.begin(1, |before| before + 1);
        history.done();
    }
    let right = |user, count, from, to| history.is_right(user, count, from, to);
    assert!(right(0, 0, 0, 0) && right(0, 1, 1, 1) && right(0, 1, 2, 2) && right(0, 2, 3, 4));
    assert!(
        !right(0, 1, 0, 0) && !right(0, 0, 1, 2) && !right(0, 1, 3, 4),
        "another"
    );
    assert!(
        right(0, 1, 0, 1) && right(0, 0, 0, 1) && !right(0, 2, 0, 2),
        "between"
    );
    assert!(
        right(1, 3, 6, 6) && !right(1, 2, 6, 6) && right(1, 2, 5, 6),
        "the last"
    );
    assert_eq!(
        (history.begun_by(wall()), history.done_before(wall() + 1)),
        (6, 6)
    );
    assert_eq!((history.begun_by(0), history.done_before(0)), (0, 0));
    let later = wall() + 1_000;
    assert_eq!(history.age(6, later), 0);
    assert!(history.age(2, later) >= history.age(3, later) && history.age(3, later) >= 1_000);
    history.lose_after(4);
    assert_eq!(history.numbers(), (4, 4));
    assert!(right(0, 2, 4, 4) && !right(0, 0, 4, 9), "what is lost");
}
