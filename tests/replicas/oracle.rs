//! All users of a restored file, counted again: those of the fixture by the answers that another program gave for them,
//! those of the login system by the history.

use std::fs;

use crate::callers::{counted, question};
use crate::client::Client;
use crate::history::USERS;
use crate::login::{TENANT, TICK, name};
use crate::node::Node;
use crate::shared::Shared;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Puts the fixture into a file, as of the instant that its answers are for.
pub(crate) fn import(node: &Node) {
    let sessions = format!("{FIXTURES}/sessions.ndjson");
    node.run(&["import", "--at", "2026-11-23T12:00:00Z", &sessions]);
}

pub(crate) struct Counted {
    /// How many commits the file holds.
    pub(crate) held: u64,
    pub(crate) answers: u64,
    pub(crate) wrong: u64,
}

/// Counts the users in the file of a node.
pub(crate) fn count_again(shared: &Shared, node: &Node) -> Counted {
    let (_server, address) = node.serve(&["--mode", "development"], "off");
    let mut client = Client::new(&address);
    let mut count = |tenant: &str, user: &str, fields: &str| {
        let response = client.ask(question(tenant, user, fields).as_bytes());
        counted(&response.unwrap())
    };
    let held = count(TENANT, TICK, "").unwrap();
    let (mut answers, mut wrong) = (1, 0);
    let mut judge = |tenant: &str, user: &str, found: Option<u64>, is_right: bool| {
        answers += 1;
        if !is_right {
            wrong += 1;
            let name = node.name;
            shared.fault(format!(
                "{name}, with {held} commits: {found:?} of {user:?} of {tenant}"
            ));
        }
    };
    let expected = fs::read_to_string(format!("{FIXTURES}/expected.tsv")).unwrap();
    for line in expected.lines() {
        let [at, tenant, user, right] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let user: String = serde_json::from_str(user).unwrap();
        let found = count(tenant, &user, &format!("X-Sessile-Now: {at}\r\n"));
        judge(tenant, &user, found, found == right.parse().ok());
    }
    for user in 0..USERS {
        let found = count(TENANT, &name(user), "");
        let is_right = |found| shared.history.is_right(user, found, held, held);
        judge(TENANT, &name(user), found, found.is_some_and(is_right));
    }
    Counted {
        held,
        answers,
        wrong,
    }
}
