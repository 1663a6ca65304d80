//! One request to one response. Knows no socket; `server` hands it requests through hyper's `Service`.
//!
//! - [`service`]: the way of a request, from top to bottom.
//! - [`framing`]: what a request must be before its meaning matters. [`gate`]: how many may be under way.
//! - [`router`]: which operation a target and a method name.
//! - [`auth`]: who asks. [`rate`]: how often. [`live`]: what a reload replaces. [`params`]: about whom, and at what instant.
//! - [`handlers`]: the operations.
//! - [`problem`]: every error, and how it is written. [`negotiate`]: in which media type.
//! - `pulse`: whether a worker still answers.
//! - [`trace`]: the ids of a request. [`headers`]: the fields of both directions.

pub mod auth;
mod framing;
mod gate;
mod handlers;
mod headers;
mod live;
pub mod negotiate;
pub mod params;
pub mod problem;
mod pulse;
mod rate;
pub mod router;
mod service;
pub mod trace;

pub use framing::FrameLimits;
pub use handlers::active::ActiveSessionStatus;
pub use router::Surface;
pub use service::{Api, Endpoint, Settings};
