//! A read node: its server, and what has it follow the writer node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::callers::{is_stale, request};
use crate::client::Client;
use crate::clock::wall;
use crate::node::Node;
use crate::process::{Process, Took};
use crate::shared::{Asked, Shared};
use crate::writer::Killed;

/// How much later than by `database.stale_after` it may be told that the data is stale.
const LATE: Duration = Duration::from_secs(2);

pub(crate) struct Reader {
    pub(crate) node: Node,
    pub(crate) asked: Arc<Asked>,
    /// Killed with it.
    _server: Process,
}

impl Reader {
    /// One that has taken over a first state.
    pub(crate) fn start(shared: &Shared, name: &'static str) -> Self {
        let node = Node::new(shared, name);
        node.follow().unwrap();
        let stale_after = format!("{}s", stale_after(shared).as_secs());
        let (server, address) = node.serve(&[], &stale_after);
        Self {
            asked: Arc::new(Asked::new(name, address, false)),
            _server: server,
            node,
        }
    }

    /// Follows the writer node to the end. Returns what it took each time while that lived.
    pub(crate) fn follow(&self, shared: &Shared) -> Vec<Took> {
        let mut all = Vec::new();
        while !shared.is_over() {
            shared.refreshing.fetch_add(1, Ordering::SeqCst);
            let followed = self.node.follow();
            shared.refreshing.fetch_sub(1, Ordering::SeqCst);
            if followed.is_ok() {
                // Whoever asks from now on is answered from this file, or a newer one.
                self.asked
                    .held
                    .fetch_max(self.node.held(), Ordering::SeqCst);
            }
            match followed {
                Ok(took) if shared.is_replicated.load(Ordering::SeqCst) => all.push(took),
                Ok(_) => {}
                Err(error) => shared.fault(format!("{}: {error}", self.node.name)),
            }
            sleep(shared.options.pause);
        }
        all
    }

    /// Waits until `/readyz` says that the data is stale: how long after the writer node was killed.
    pub(crate) fn turns_red(&self, shared: &Shared, killed: &Killed) -> Duration {
        let stale_after = stale_after(shared);
        let mut client = Client::new(&self.asked.address);
        while !self.is_stale(shared, &mut client) {
            if killed.at.elapsed() > stale_after + LATE {
                shared.fault(format!("{} does not say that it is stale", self.node.name));
                break;
            }
            sleep(Duration::from_millis(10));
        }
        let age = wall() - self.asked.stated.load(Ordering::SeqCst);
        if u128::from(age.unsigned_abs()) < stale_after.as_millis() {
            shared.fault(format!("{} calls {age} ms stale", self.node.name));
        }
        killed.at.elapsed()
    }

    /// Waits until it is fresh, and holds more than `held` commits: how long that took.
    pub(crate) fn goes_on(&self, shared: &Shared, held: u64, patience: Duration) -> Duration {
        let began = Instant::now();
        let mut client = Client::new(&self.asked.address);
        while self.asked.held() <= held || self.is_stale(shared, &mut client) {
            if began.elapsed() > patience {
                shared.fault(format!(
                    "{} does not follow the writer node",
                    self.node.name
                ));
                break;
            }
            sleep(Duration::from_millis(10));
        }
        began.elapsed()
    }

    fn is_stale(&self, shared: &Shared, client: &mut Client) -> bool {
        let response = client.ask(request("/readyz", "").as_bytes()).unwrap();
        if !matches!(response.status, 200 | 503) {
            shared.fault(format!(
                "{}: {} of /readyz",
                self.node.name, response.status
            ));
        }
        is_stale(&response)
    }
}

/// The `database.stale_after` of read nodes: what is some runs of `follow`, which take longer with more rows.
fn stale_after(shared: &Shared) -> Duration {
    Duration::from_secs(if shared.options.rows == 0 { 10 } else { 30 }) + shared.options.pause
}
