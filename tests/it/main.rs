//! The contract, held against the real program over real files and real sockets.
//!
//! One binary, a file for each part of the contract. Servers listen on a port of the kernel's choice and are
//! ready when they say so; nothing here sleeps and hopes.

#![allow(clippy::unwrap_used, reason = "a test that finds none has failed")]
#![allow(unreachable_pub, reason = "one binary, which nobody can reach into")]

mod architecture;
mod audit;
mod config;
mod delete;
mod exit_codes;
mod explain;
mod import;
mod operation;
mod predicate;
mod problems;
mod purge;
mod revoke;
mod schema;
mod serve;
mod snapshot;
mod stats;
mod support;
mod vectors;
