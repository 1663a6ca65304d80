//! Those who ask a node all the time, and judge what it says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::random_range;
use serde_json::Value;

use crate::client::{Client, Response};
use crate::clock::{now, wall};
use crate::history::USERS;
use crate::login::{TENANT, TICK, name};
use crate::node::KEY;
use crate::seen::Seen;
use crate::shared::{Asked, Shared};

/// Of each node, and each with a connection.
const CALLERS: usize = 2;

/// Between two questions on a connection, on average.
const PAUSE: Duration = Duration::from_millis(3);

/// After how many rounds of questions a node is also asked how old its data is, and after how many the connection is
/// opened anew.
const STATED: u32 = 25;
const RECONNECTED: u32 = 1_000;

/// A request for a user's sessions.
pub(crate) fn question(tenant: &str, user: &str, fields: &str) -> String {
    let user = utf8_percent_encode(user, NON_ALPHANUMERIC);
    request(
        &format!("/internal/session/sessions/{user}/active"),
        &format!("X-API-Key: {KEY}\r\nX-Tenant-ID: {tenant}\r\n{fields}"),
    )
}

pub(crate) fn request(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

/// The count, if it is an answer whose members say the same.
pub(crate) fn counted(response: &Response) -> Option<u64> {
    let body: Value = serde_json::from_str(&response.body).ok()?;
    let count = body["session_count"].as_u64()?;
    (response.status == 200 && body["active"] == (count > 0)).then_some(count)
}

struct Caller<'s> {
    shared: &'s Shared,
    node: &'s Asked,
    client: Client,
    seen: Seen,
}

/// The callers of a node.
pub(crate) struct Callers<'s>([ScopedJoinHandle<'s, Seen>; CALLERS]);

impl Callers<'_> {
    pub(crate) fn join(self) -> Seen {
        let mut all = Seen::default();
        for caller in self.0 {
            all.add(caller.join().unwrap());
        }
        all
    }
}

/// Has a node asked until it may have gone.
pub(crate) fn ask<'s>(
    scope: &'s Scope<'s, '_>,
    shared: &'s Shared,
    node: &Arc<Asked>,
) -> Callers<'s> {
    Callers([(); CALLERS].map(|()| {
        let node = node.clone();
        scope.spawn(move || go_round(shared, &node))
    }))
}

fn go_round(shared: &Shared, node: &Asked) -> Seen {
    let mut caller = Caller {
        shared,
        node,
        client: Client::new(&node.address),
        seen: Seen::default(),
    };
    let (mut held, mut count) = (None, None);
    for round in 1.. {
        if shared.is_over() || node.may_be_gone() {
            break;
        }
        if round % STATED == 0 {
            caller.stated();
        }
        if round % RECONNECTED == 0 {
            caller.client.close();
        }
        let before = held;
        held = caller.tick();
        if let (Some(from), Some(to), Some((user, count))) = (before, held, count)
            && !shared.history.is_right(user, count, from, to)
        {
            caller.wrong(&format!(
                "user {user} has {count} sessions, between commit {from} and {to}"
            ));
        }
        let user = random_range(0..USERS);
        count = caller.count(&name(user)).map(|count| (user, count));
        sleep(PAUSE.mul_f64(random_range(0.0..2.0)));
    }
    if !node.may_be_gone() {
        caller.seen.reconnected = caller.client.reconnected;
    }
    caller.seen
}

impl Caller<'_> {
    fn wrong(&mut self, what: &str) {
        // An answer of a node that has gone meanwhile is none.
        if !self.node.may_be_gone() {
            self.seen.wrong += 1;
            self.shared.fault(format!("{}: {what}", self.node.name));
        }
    }

    fn send(&mut self, request: &str) -> Option<Response> {
        match self.client.ask(request.as_bytes()) {
            Ok(response) if response.status == 200 => Some(response),
            Ok(response) => {
                self.wrong(&format!("{}: {}", response.status, response.body));
                None
            }
            Err(error) => {
                self.wrong(&format!("no answer: {error}"));
                None
            }
        }
    }

    fn count(&mut self, user: &str) -> Option<u64> {
        let shared = self.shared;
        let is_refreshing = || shared.refreshing.load(Ordering::SeqCst) > 0;
        let was_refreshing = is_refreshing();
        let sent = now();
        let response = self.send(&question(TENANT, user, ""))?;
        let took = (now() - sent) as f64 / 1e6;
        if was_refreshing || is_refreshing() {
            self.seen.beside.push(took);
        } else {
            self.seen.quiet.push(took);
        }
        self.seen.answers += 1;
        let count = counted(&response);
        if count.is_none() {
            self.wrong(&format!("200 with {:?}", response.body));
        }
        count
    }

    /// How many commits the node holds.
    fn tick(&mut self) -> Option<u64> {
        let (node, history) = (self.node, &self.shared.history);
        let (_, done) = history.numbers();
        let shown = node.held();
        let stated = node.stated.load(Ordering::SeqCst);
        let promised = history.done_before(stated);
        let held = self.count(TICK)?;
        let at = wall();
        let (begun, _) = history.numbers();
        if held > begun {
            self.wrong(&format!("holds {held} commits of {begun}"));
        } else if held < shown {
            self.wrong(&format!("went back from commit {shown} to {held}"));
        } else if held < promised {
            self.wrong(&format!(
                "stated {stated}, and lacks commits {} to {promised} from before",
                held + 1
            ));
        } else if node.is_writer && held < done {
            self.wrong(&format!("holds {held} commits, and {done} were done"));
        }
        node.held.fetch_max(held, Ordering::SeqCst);
        if self.shared.is_replicated.load(Ordering::SeqCst) {
            self.seen.ages.push(history.age(held, at) as f64);
        }
        Some(held)
    }

    /// Takes down what the node says of the age of its data.
    fn stated(&mut self) {
        let before = self.node.stated.load(Ordering::SeqCst);
        let Some(response) = self.send(&request("/metrics", "")) else {
            return;
        };
        let at = wall();
        // A file that can't be looked at in time is one of which nothing is said.
        if gauge(&response.body, "sessile_database_file_bytes").is_none() {
            self.seen.silent += 1;
            return;
        }
        let heartbeat = gauge(
            &response.body,
            "sessile_database_heartbeat_timestamp_seconds",
        );
        let Some(stated) = heartbeat.map(|seconds| (seconds * 1e3).round() as i64) else {
            return self.wrong("states no heartbeat");
        };
        if stated < before {
            self.wrong(&format!("states {stated} after {before}"));
        }
        self.node.stated.fetch_max(stated, Ordering::SeqCst);
        if self.shared.is_replicated.load(Ordering::SeqCst) {
            self.seen.stated.push((at - stated) as f64);
            self.is_fresh();
        }
    }

    /// While there is a writer node no data is stale.
    fn is_fresh(&mut self) {
        match self.client.ask(request("/readyz", "").as_bytes()) {
            Ok(response) if response.status == 200 => {}
            Ok(response) if is_stale(&response) => {
                if self.shared.is_replicated.load(Ordering::SeqCst) {
                    self.wrong(&response.body);
                }
            }
            Ok(_) => self.seen.silent += 1,
            Err(error) => self.wrong(&format!("no answer: {error}")),
        }
    }
}

/// Whether `/readyz` says that the data is too old, and not that it could not be looked at.
pub(crate) fn is_stale(response: &Response) -> bool {
    response.status == 503 && response.body.contains("over database.stale_after")
}

/// A value in what `/metrics` says.
fn gauge(metrics: &str, name: &str) -> Option<f64> {
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
    values.find_map(|value| value.strip_prefix(' ')?.parse().ok())
}
