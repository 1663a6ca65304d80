//! What is fuzzed: functions that take any bytes, and panic where the program has done what it must not do.
//!
//! Each holds the program against an oracle of its own, written another way, rather than only for a crash. They
//! reach it by what the library has public: where that is not the parser itself (Host and X-Request-ID have no
//! function of their own to call), by the whole way of a request, so that no door is cut for the fuzzer.
//!
//! libFuzzer drives them from `drive/`, one binary for each. `replay.rs` runs them over every file of `corpus/`, as an
//! ordinary test on a stable compiler.

pub(crate) mod config;
pub(crate) mod import;
pub(crate) mod path;
pub(crate) mod request;
