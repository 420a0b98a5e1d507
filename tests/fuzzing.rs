//! The short form of `make fuzz`: every seed, and thousands of changes of it, through the same entries.
//!
//! The same changes in every run: a failure names its target and shows the bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says so when its surroundings fail")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use mlxsup::fuzzing::TARGETS;

/// Changed inputs per target; those that take a millisecond each get by with fewer.
const CHANGED: usize = 4_000;
const CHANGED_SLOW: usize = 1_000;
/// Longest input; longer ones find the same faults, later.
const LONGEST: usize = 4 << 10;

/// xorshift64*: the same numbers everywhere and always.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap_or(0) % end
    }
}

/// What readers of text stumble over.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"#",
    b"=",
    b"*",
    b"/0",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"1e999",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"null",
    b"true",
    b"[[[[[[[[[[[[[[[[",
    b"\\ud800",
];

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    match dice.below(7) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.next().to_le_bytes()[3],
        2 => drop(input.drain(at..(at + dice.below(16)).min(input.len()))),
        3 => {
            let word = WORDS[dice.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        4 => {
            let piece: Vec<u8> = input[at..(at + dice.below(32)).min(input.len())].to_vec();
            let to = dice.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 => {
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let word = WORDS[dice.below(WORDS.len())].repeat(dice.below(40));
            input.splice(at..at, word);
        }
    }
    input.truncate(LONGEST);
}

fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds for {target}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn replay(target: &str, changed: usize) {
    let (_, entry) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds_of(target);
    let holds = |input: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| entry(input))).is_err() {
            panic!("{target} breaks a promise over {:?}", String::from_utf8_lossy(input));
        }
    };
    holds(b"");
    seeds.iter().for_each(|seed| holds(seed));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..changed {
        let mut input = seeds[round % seeds.len()].clone();
        for _ in 0..=dice.below(6) {
            change(&mut input, &seeds, &mut dice);
        }
        holds(&input);
    }
}

#[test]
fn events_of_the_worker_link() {
    replay("events", CHANGED);
}

#[test]
fn what_is_read_of_a_request() {
    replay("intake", CHANGED);
}

#[test]
fn the_key_file() {
    replay("keys", CHANGED);
}

#[test]
fn the_configuration() {
    replay("config", CHANGED_SLOW);
}

#[test]
fn crontab_text() {
    replay("crontab", CHANGED_SLOW);
}

#[test]
fn the_state_file() {
    replay("state_file", CHANGED);
}

#[test]
fn every_target_is_built_and_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let (manifest, makefile) = (read("fuzz/Cargo.toml"), read("Makefile"));
    let listed: Vec<&str> =
        makefile.lines().find_map(|line| line.strip_prefix("FUZZ_TARGETS := ")).unwrap().split(' ').collect();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, names);
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(read(&format!("fuzz/fuzz_targets/{name}.rs")).contains(&format!("fuzzing::{name}(bytes)")), "{name}");
    }
}
