//! Any bytes for `mlxsup::fuzzing::events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::events(bytes));
