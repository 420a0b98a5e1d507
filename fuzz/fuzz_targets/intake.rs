//! Any bytes for `mlxsup::fuzzing::intake`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::intake(bytes));
