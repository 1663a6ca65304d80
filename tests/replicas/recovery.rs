//! What comes after the writer node: its newest state and an earlier one are restored elsewhere and counted again, and
//! a new writer node goes on.

use std::thread::{Scope, sleep};
use std::time::Duration;

use sessile::time::Timestamp;

use crate::PATIENCE;
use crate::callers::{counted, question};
use crate::client::Client;
use crate::login::{TENANT, TICK};
use crate::node::Node;
use crate::oracle::{Counted, count_again};
use crate::process::{Process, Took};
use crate::reader::Reader;
use crate::shared::Shared;
use crate::writer::{Killed, Work, Writer};

/// How much older than the moment that it is asked for a state may be: `monitor-interval` and `sync-interval`, a second
/// each, and what a machine with other work takes.
const OLDER: i64 = 5_000;

/// For how long a new writer node is looked at then.
const AFTERWARDS: Duration = Duration::from_secs(3);

pub(crate) struct Recovery {
    /// From the kill to the first answer of a new writer node's server.
    pub(crate) time: Duration,
    pub(crate) restored: Took,
    pub(crate) newest: Counted,
    /// How many commits were done and are in no replica, and in how many milliseconds before the kill.
    pub(crate) lost: u64,
    pub(crate) lost_millis: i64,
    pub(crate) moment: Counted,
    pub(crate) moment_restored: Took,
    /// How much older than the moment it is.
    pub(crate) older_millis: i64,
}

/// A node with all that was not lost, its server, and where that listens.
pub(crate) type Restored = (Node, Process, String);

impl Recovery {
    /// Restores the newest state, and that of a moment.
    pub(crate) fn of(
        shared: &Shared,
        killed: &Killed,
        moment: i64,
        readers: &[Reader],
    ) -> (Self, Restored) {
        let history = &shared.history;
        let node = Node::new(shared, "new-writer");
        let restored = node.follow().unwrap();
        let (server, address) = node.serve(&[], "off");
        let answer = Client::new(&address).ask(question(TENANT, TICK, "").as_bytes());
        let time = killed.at.elapsed();
        let held = counted(&answer.unwrap());
        let newest = count_again(shared, &node);
        if held != Some(newest.held) {
            shared.fault(format!(
                "{} holds {held:?} and {} commits",
                node.name, newest.held
            ));
        }
        for reader in readers {
            let (name, held) = (reader.node.name, reader.asked.held());
            if held > newest.held {
                shared.fault(format!(
                    "{name} holds {held} commits, the replica {}",
                    newest.held
                ));
            }
        }
        let (lost, lost_millis) = (
            killed.done.saturating_sub(newest.held),
            history.age(newest.held, killed.wall),
        );

        let earlier = Node::new(shared, "earlier");
        let moment_restored = earlier.restore(Timestamp::from_millis(moment));
        let counted = count_again(shared, &earlier);
        let right = history.done_before(moment - OLDER)..=history.begun_by(moment);
        if !right.contains(&counted.held) {
            shared.fault(format!(
                "{} commits of the moment, not {right:?}",
                counted.held
            ));
        }
        let recovery = Self {
            time,
            restored,
            lost,
            lost_millis,
            older_millis: history.age(counted.held, moment),
            moment: counted,
            moment_restored,
            newest,
        };
        history.lose_after(recovery.newest.held);
        (recovery, (node, server, address))
    }
}

/// Begins a new writer node, which read nodes must follow: how long each took to.
pub(crate) fn go_on<'s>(
    scope: &'s Scope<'s, '_>,
    shared: &'s Shared,
    (node, server, address): Restored,
    readers: &'s [Reader; 2],
) -> (Writer, Work<'s>, [Duration; 2]) {
    let new = Writer::with(node, server, address);
    let held = shared.history.numbers().1;
    let working = new.work(scope, shared);
    let followed = readers
        .each_ref()
        .map(|reader| scope.spawn(move || reader.goes_on(shared, held, PATIENCE)));
    let followed = followed.map(|followed| followed.join().unwrap());
    sleep(AFTERWARDS);
    (new, working, followed)
}
