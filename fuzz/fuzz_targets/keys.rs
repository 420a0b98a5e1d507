//! Any bytes for `mlxsup::fuzzing::keys`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::keys(bytes));
