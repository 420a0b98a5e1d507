//! Any bytes for `mlxsup::fuzzing::crontab`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mlxsup::fuzzing::crontab(bytes));
