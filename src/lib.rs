//! sessile answers one question for other services, from a SQLite file that their login system writes: does
//! this user have an active session?
//!
//! The rooms of the house, from the door inwards. An import points down this list, never up (a test checks
//! the arrows):
//!
//! - [`cli`]: the command line's types.
//! - [`commands`]: one verb a file, each wiring the rooms below together.
//! - [`config`]: defaults, file, environment and flags, merged and then parsed into one final type.
//! - [`telemetry`]: where log lines go.
//! - [`systemd`]: what systemd hands to a service, and wants to hear from it.
//! - [`server`]: listeners, TLS, connections, drain. Knows no session.
//! - [`api`]: one request to one response. Knows no socket, and meets `server` at hyper's `Service`.
//! - [`exchange`]: the shapes that sessions come in from elsewhere and go out in.
//! - [`store`]: the SQLite file. Knows no HTTP, and meets `api` at one handle, [`store::Reader`].
//! - [`metrics`]: what is counted, for whoever reads `/metrics`.
//! - [`session`]: what a session is and when it counts. The predicate stands here and nowhere else.
//! - [`time`]: instants and spans in milliseconds.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that finds none has failed")
)]

pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exchange;
pub mod metrics;
pub mod server;
pub mod session;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod time;
