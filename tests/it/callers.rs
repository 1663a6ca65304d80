//! Callers that ask without a pause, beside whatever else is done to the file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{KEY, Server, question};

/// Runs `work` while four callers ask about the user `u` of tenant `t`. None of them may see an error, nor a count
/// that can't follow the one before it: `follows` is asked of both.
pub fn beside_callers(
    server: &Server,
    follows: impl Fn(u64, u64) -> bool + Sync,
    work: impl FnOnce(),
) {
    let fields = [("X-API-Key", KEY), ("X-Tenant-ID", "t")];
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = server.connect();
                let mut last = None;
                while !done.load(Ordering::Relaxed) {
                    let response = connection.ask(&question("u", &fields));
                    assert_eq!(response.status, 200, "{response:?}");
                    let count = response.json()["session_count"].as_u64().unwrap();
                    let before = last.replace(count).unwrap_or(count);
                    assert!(follows(before, count), "{before} became {count}");
                }
            });
        }
        let _stop = Stop(&done);
        work();
    });
}

/// Tells callers when dropped that the work is done, even where it panics.
pub struct Stop<'d>(pub &'d AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
