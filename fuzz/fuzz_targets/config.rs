//! Any bytes for `mlxsup::fuzzing::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::config(bytes));
