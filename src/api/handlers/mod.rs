//! The operations, one a file.

pub(super) mod active;
pub(super) mod docs;
pub(super) mod health;
pub(super) mod metrics;
