//! libFuzzer's way to the target `import`.

#![no_main]
#![allow(dead_code, reason = "the other targets")]
#![allow(clippy::unwrap_used, reason = "what a fuzzer looks for")]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::import::run(data));
