//! What the file says of each user, by the commits that made it so, and whether an answer is right.
//!
//! A commit happens somewhere between the moment it was asked for and the moment it was known to be done. So an answer
//! is right if it equals a version of the user that can have been the newest at some moment between the request was
//! sent and the answer received; then it is no older than the last commit that was done before it was asked for.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::clock::now;

/// How long versions are kept after the next one has taken their place: far over any delay of an answer.
const KEPT: u64 = 60_000_000_000;

/// The live sessions of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Those that outlive the soak.
    pub(crate) lasting: u64,
    /// When the others expire.
    pub(crate) expiries: Vec<i64>,
}

impl State {
    fn count_at(&self, millis: i64) -> u64 {
        let short = self.expiries.iter().filter(|expiry| millis < **expiry);
        self.lasting + short.count() as u64
    }
}

#[derive(Debug)]
struct Version {
    state: State,
    /// When its commit was asked for, and when it was known to be done.
    begun: u64,
    done: Option<u64>,
}

/// An answer, and when it was asked for and received, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) user: usize,
    pub(crate) count: u64,
    pub(crate) sent: (u64, i64),
    pub(crate) received: (u64, i64),
}

/// The versions of each user, the newest last. A user is changed by one thread at a time.
pub(crate) struct Model(Vec<Mutex<VecDeque<Version>>>);

impl Model {
    pub(crate) fn new(users: usize) -> Self {
        let none = || Version {
            state: State::default(),
            begun: 0,
            done: Some(0),
        };
        Self(
            (0..users)
                .map(|_| Mutex::new(VecDeque::from([none()])))
                .collect(),
        )
    }

    pub(crate) fn users(&self) -> usize {
        self.0.len()
    }

    /// The newest state of a user.
    pub(crate) fn state(&self, user: usize) -> State {
        self.0[user].lock().unwrap().back().unwrap().state.clone()
    }

    /// A commit is about to be asked for.
    pub(crate) fn begin(&self, user: usize, state: State) {
        let mut versions = self.0[user].lock().unwrap();
        let begun = now();
        while versions
            .get(1)
            .and_then(|next| next.done)
            .is_some_and(|done| done + KEPT < begun)
        {
            versions.pop_front();
        }
        versions.push_back(Version {
            state,
            begun,
            done: None,
        });
    }

    /// It was done by `at`.
    pub(crate) fn done(&self, user: usize, at: u64) {
        self.0[user].lock().unwrap().back_mut().unwrap().done = Some(at);
    }

    /// It did not happen.
    pub(crate) fn undo(&self, user: usize) {
        self.0[user].lock().unwrap().pop_back();
    }

    /// Whether an answer is right, or what would have been.
    pub(crate) fn judge(&self, answer: &Answer) -> Result<(), String> {
        let versions = self.0[answer.user].lock().unwrap();
        let mut right = Vec::new();
        for (index, version) in versions.iter().enumerate() {
            let end = versions
                .get(index + 1)
                .and_then(|next| next.done)
                .unwrap_or(u64::MAX);
            if version.begun > answer.received.0 || end < answer.sent.0 {
                continue;
            }
            // What expires meanwhile may count or not.
            let most = version.state.count_at(answer.sent.1);
            let fewest = version.state.count_at(answer.received.1);
            if (fewest..=most).contains(&answer.count) {
                return Ok(());
            }
            right.push(fewest..=most);
        }
        Err(format!("{} where right were {right:?}", answer.count))
    }
}

/// An oracle that takes everything for right would find nothing: it is asked about answers that are known.
pub(crate) fn prove() {
    let model = Model::new(1);
    let state = |lasting, expiries: &[i64]| State {
        lasting,
        expiries: expiries.to_vec(),
    };
    model.begin(0, state(1, &[]));
    let (begun, done) = (model.0[0].lock().unwrap()[1].begun, now());
    model.done(0, done);
    let judge = |count, sent, received| {
        let answer = Answer {
            user: 0,
            count,
            sent: (sent, 100),
            received: (received, 110),
        };
        model.judge(&answer).is_ok()
    };
    assert!(judge(1, done + 1, done + 2), "the newest");
    assert!(!judge(0, done + 1, done + 2), "older than the last commit");
    assert!(!judge(2, done + 1, done + 2), "never true");
    assert!(
        judge(0, begun - 2, begun - 1) && !judge(1, begun - 2, begun - 1),
        "from the future"
    );
    assert!(
        judge(0, begun - 1, done + 1) && judge(1, begun - 1, done + 1),
        "either, meanwhile"
    );
    model.begin(0, state(1, &[105, 120]));
    let begun = now();
    assert!(judge(3, begun, begun) && judge(2, begun, begun) && judge(1, begun, begun));
    model.done(0, now());
    assert!(judge(3, now(), now()) && judge(2, now(), now()) && !judge(1, now(), now()));
    model.undo(0);
    assert!(
        judge(1, now(), now()) && !judge(2, now(), now()),
        "what did not happen"
    );
}
