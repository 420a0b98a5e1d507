//! A sum as a person writes it on paper, and the same as data.
//!
//! Owns the rounding: parts are shown in the unit of the whole, and the result is the sum of what is written, so that a
//! reader who adds up finds it right. The bytes beside it are exact.

use std::fmt;

use serde::Serialize;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// One part of a sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Term {
    /// What it is, in words.
    pub name: String,
    /// Bytes; negative ones are taken away.
    pub bytes: i64,
}

impl Term {
    /// A part that is added.
    #[must_use]
    pub fn plus(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes: signed(bytes) }
    }

    /// A part that is taken away.
    #[must_use]
    pub fn minus(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes: -signed(bytes) }
    }
}

/// A number and where it comes from: `wired_limit 38.1 of 51.8 GiB = weights 34.3 + KV 3.8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Derivation {
    /// What is derived, by its key in the configuration where it has one.
    pub name: String,
    /// The result.
    pub bytes: u64,
    /// The bound it stays under, and what that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<(u64, String)>,
    /// The parts; their sum is the result.
    pub terms: Vec<Term>,
}

impl Derivation {
    /// A result and its parts. Parts of nothing are left out.
    #[must_use]
    pub fn of(name: impl Into<String>, bytes: u64, terms: Vec<Term>) -> Self {
        let terms: Vec<Term> = terms.into_iter().filter(|term| term.bytes != 0).collect();
        debug_assert!(
            terms.is_empty() || terms.iter().map(|term| term.bytes).sum::<i64>() == signed(bytes),
            "the parts are the whole: {bytes} {terms:?}"
        );
        Self { name: name.into(), bytes, of: None, terms }
    }

    /// The sum of these parts; nothing is less than 0.
    #[must_use]
    pub fn sum(name: impl Into<String>, terms: Vec<Term>) -> Self {
        let total = terms.iter().map(|term| term.bytes).fold(0, i64::saturating_add);
        match u64::try_from(total) {
            Ok(bytes) => Self::of(name, bytes, terms),
            Err(_) => Self { name: name.into(), bytes: 0, of: None, terms },
        }
    }

    /// Says under which bound it stays.
    #[must_use]
    pub fn within(mut self, bound: u64, word: impl Into<String>) -> Self {
        self.of = Some((bound, word.into()));
        self
    }

    /// The right-hand side alone: `weights 34.3 + KV 3.8`; of a single part its name alone.
    #[must_use]
    pub fn parts(&self) -> String {
        if let [only] = self.terms.as_slice() {
            return only.name.clone();
        }
        let scale = self.scale();
        let mut text = String::new();
        for (index, term) in self.terms.iter().enumerate() {
            let sign = match (index, term.bytes < 0) {
                (0, false) => "",
                (0, true) => "− ",
                (_, false) => " + ",
                (_, true) => " − ",
            };
            text.push_str(&format!("{sign}{} {}", term.name, scale.write(scale.ticks(term.bytes.unsigned_abs()))));
        }
        text
    }

    fn scale(&self) -> Scale {
        let largest = self.terms.iter().map(|term| term.bytes.unsigned_abs()).max().unwrap_or(0);
        Scale::of(largest.max(self.bytes))
    }

    /// What the written parts add up to.
    fn written(&self) -> u64 {
        let scale = self.scale();
        if self.terms.is_empty() {
            return scale.ticks(self.bytes);
        }
        let ticks = self.terms.iter().map(|term| signed(scale.ticks(term.bytes.unsigned_abs())) * term.bytes.signum());
        u64::try_from(ticks.sum::<i64>()).unwrap_or(0)
    }
}

impl fmt::Display for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = self.scale();
        write!(f, "{} {}", self.name, scale.write(self.written()))?;
        match &self.of {
            Some((bound, _)) if Scale::of(*bound).unit() == scale.unit() => {
                write!(f, " of {} {}", scale.write(scale.ticks(*bound)), scale.unit())?;
            }
            Some((bound, _)) => write!(f, " {} of {}", scale.unit(), spoken(*bound))?,
            None => write!(f, " {}", scale.unit())?,
        }
        if !self.terms.is_empty() {
            write!(f, " = {}", self.parts())?;
        }
        Ok(())
    }
}

/// Bytes for people: `38.1 GiB`, `512 MiB`.
#[must_use]
pub fn spoken(bytes: u64) -> String {
    let scale = Scale::of(bytes);
    format!("{} {}", scale.write(scale.ticks(bytes)), scale.unit())
}

/// The unit of a whole sum: tenths of a GiB, or whole MiB below one GiB.
#[derive(Clone, Copy)]
enum Scale {
    TenthsOfGib,
    Mib,
}

impl Scale {
    const fn of(largest: u64) -> Self {
        if largest >= GIB { Self::TenthsOfGib } else { Self::Mib }
    }

    /// Rounded to what is shown.
    fn ticks(self, bytes: u64) -> u64 {
        let rounded = match self {
            Self::TenthsOfGib => (u128::from(bytes) * 10 + u128::from(GIB / 2)) / u128::from(GIB),
            Self::Mib => (u128::from(bytes) + u128::from(MIB / 2)) / u128::from(MIB),
        };
        u64::try_from(rounded).unwrap_or(u64::MAX)
    }

    fn write(self, ticks: u64) -> String {
        match self {
            Self::TenthsOfGib => format!("{}.{}", ticks / 10, ticks % 10),
            Self::Mib => ticks.to_string(),
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::TenthsOfGib => "GiB",
            Self::Mib => "MiB",
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gib(number: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of a test")]
        let bytes = (number * GIB as f64) as u64;
        bytes
    }

    #[test]
    fn a_sum_reads_as_on_paper() {
        let wired = Derivation::sum("wired", vec![Term::plus("weights", gib(34.3)), Term::plus("KV", gib(3.8))]);
        assert_eq!(
            wired.within(gib(51.84), "working set").to_string(),
            "wired 38.1 of 51.8 GiB = weights 34.3 + KV 3.8"
        );
        let small = Derivation::sum("wired", vec![Term::plus("weights", 514 * MIB), Term::plus("KV", 0)]);
        assert_eq!(small.to_string(), "wired 514 MiB = weights");
        let bounded = small.within(gib(15.54), "memory less the reserve");
        assert_eq!(bounded.to_string(), "wired 514 MiB of 15.5 GiB = weights");
        let none = Derivation::sum("left", vec![Term::plus("memory", GIB), Term::minus("weights", 3 * GIB)]);
        assert_eq!(none.to_string(), "left 0.0 GiB = memory 1.0 − weights 3.0");
        assert_eq!((spoken(gib(38.13)), spoken(512 << 20)), ("38.1 GiB".to_owned(), "512 MiB".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_close_to_the_truth(parts in prop::collection::vec(0u64..1 << 42, 1..6)) {
            let terms: Vec<Term> = parts.iter().map(|bytes| Term::plus("x", *bytes)).collect();
            let sum = Derivation::sum("sum", terms);
            let truth = sum.scale().ticks(sum.bytes);
            prop_assert!(sum.written().abs_diff(truth) <= parts.len() as u64, "{} {}", sum, truth);
        }
    }
}
