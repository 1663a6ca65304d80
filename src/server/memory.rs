//! What connections have used and need no more goes back to the system.
//!
//! The C library keeps freed memory for the next use, unless it lies at the end of its heap, where what a burst of
//! connections leaves behind does not lie: 10,000 that had asked once and now rest took 115 MB, and 99 MB after this.

#![allow(
    unsafe_code,
    reason = "one call of the C library, which has no safe name"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// How many connections' buffers are worth the look through all of the heap, which takes milliseconds: some 2.5 MB.
const MANY: usize = 256;

/// How often is looked whether so many were given back.
const PERIOD: Duration = Duration::from_secs(2);

static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

/// A connection has given its buffers back.
pub(super) fn given_back() {
    GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
}

/// Gives memory back to the system, for ever.
pub(super) async fn tidy() {
    loop {
        sleep(PERIOD).await;
        if GIVEN_BACK.load(Ordering::Relaxed) >= MANY {
            GIVEN_BACK.store(0, Ordering::Relaxed);
            let _ = spawn_blocking(trim).await;
        }
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it takes the heap's own locks and moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have nothing like it.
#[cfg(not(target_env = "gnu"))]
fn trim() {}
