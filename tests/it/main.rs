//! The contract, held against the real program over real files and real sockets.
//!
//! One binary, a file for each part of the contract. Servers listen on a port of the kernel's choice and are
//! ready when they say so; nothing here sleeps and hopes.

#![allow(clippy::unwrap_used, reason = "a test that finds none has failed")]
#![allow(unreachable_pub, reason = "one binary, which nobody can reach into")]

mod architecture;
mod audit;
mod backup;
mod callers;
mod config;
mod delete;
mod doctor;

mod examples;
mod exit_codes;
mod explain;
mod export;
mod faults;
mod frame;
mod heartbeat;
mod import;
mod import_csv;
mod import_follow;
mod import_modes;
mod import_stopped;
mod keys;
mod languages;
mod limits;
mod litestream;
mod logs;
mod metrics;
mod openapi;
mod operation;
mod packaging;
mod pages;
mod predicate;
mod problems;
mod purge;
mod reload;
mod restore;
mod revoke;
mod schema;
mod serve;
mod snapshot;
mod sockets;
mod stats;
mod support;
mod swap;
mod systemd;
mod tls;
mod upgrade;
mod vectors;
