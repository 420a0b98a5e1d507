//! Any bytes for `mlxsup::fuzzing::state_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::state_file(bytes));
