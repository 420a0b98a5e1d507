//! Numbers with units: durations, sizes, rates, percentages.
//!
//! Owns both directions, text to number and back. A number without a unit is an error, never a guess.

use std::time::Duration;

/// The text is no such quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct QuantityError {
    /// What is wrong with the text.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Ten years. Longer is a slip of the keyboard, and deadlines stay far from overflow.
const LONGEST: u64 = 3_650 * 86_400_000;

/// Whole numbers up to here survive the way through `f64`, which thresholds use.
const GREATEST: u64 = 1 << 53;

/// Reads `30s`, `1.5h`, `500ms`.
///
/// # Errors
/// Without a unit, with an unknown one, finer than a millisecond or longer than ten years.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let (number, unit) = split(text);
    let Some(number) = Decimal::parse(number) else {
        return Err(QuantityError {
            what: format!("`{text}` is no duration"),
            hint: "write a number and a unit: \"500ms\", \"30s\", \"5m\", \"6h\", \"1d\"".to_owned(),
        });
    };
    let factor = match DURATION_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => {
            return Err(QuantityError {
                what: format!("the duration `{text}` has no unit"),
                hint: format!("write \"{text}s\", \"{text}ms\" or, for minutes, \"{text}m\""),
            });
        }
        None => {
            let meant = match unit.trim().to_ascii_lowercase().as_str() {
                "sec" | "secs" | "second" | "seconds" => Some("s"),
                "min" | "mins" | "minute" | "minutes" => Some("m"),
                "hr" | "hrs" | "hour" | "hours" | "h" => Some("h"),
                "day" | "days" | "d" => Some("d"),
                "s" => Some("s"),
                "m" => Some("m"),
                "ms" | "msec" | "millis" => Some("ms"),
                _ => None,
            };
            let unit = unit.trim();
            return Err(QuantityError {
                what: match meant {
                    Some(meant) if meant == unit => format!("there is a space in `{text}`"),
                    Some(_) | None => format!("`{unit}` is no unit of time"),
                },
                hint: match meant {
                    Some(unit) => format!("write \"{}{unit}\"", number.written),
                    None => "the units are ms, s, m (minutes), h, d; one number, one unit".to_owned(),
                },
            });
        }
    };
    match number.times(factor) {
        Some(millis) if millis <= LONGEST => Ok(Duration::from_millis(millis)),
        Some(_) => Err(QuantityError {
            what: format!("`{text}` is longer than ten years"),
            hint: "write a shorter time, or leave the key out for its default".to_owned(),
        }),
        None => Err(QuantityError {
            what: format!("`{text}` is no whole number of milliseconds"),
            hint: "the finest time is 1ms".to_owned(),
        }),
    }
}

/// Reads `512MiB`, `45GB`, `1.5GiB` into bytes.
///
/// # Errors
/// Without a unit, with one that could mean two things (`45G`), or beyond 8 PiB.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let (number, unit) = split(text);
    let Some(number) = Decimal::parse(number) else {
        return Err(QuantityError {
            what: format!("`{text}` is no size"),
            hint: "write a number and a unit: \"512MiB\", \"45GiB\", \"45GB\"".to_owned(),
        });
    };
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => {
            return Err(QuantityError {
                what: format!("the size `{text}` has no unit"),
                hint: match number.times(1) {
                    // Nobody means as many GiB.
                    Some(bytes) if bytes >= 1 << 20 => format!("if it is bytes, write \"{}\"", format_size(bytes)),
                    Some(_) | None => format!("write \"{text}GiB\", \"{text}MiB\" or, for bytes, \"{text}B\""),
                },
            });
        }
        None => {
            let letter = unit.trim().chars().next().map(|letter| letter.to_ascii_uppercase());
            return Err(match letter {
                Some(letter @ ('K' | 'M' | 'G' | 'T')) if unit.trim().len() <= 3 => QuantityError {
                    what: format!("`{text}` could mean powers of 1024 or of 1000"),
                    hint: format!("write \"{0}{letter}iB\" (1024) or \"{0}{letter}B\" (1000)", number.written),
                },
                Some(_) | None => QuantityError {
                    what: format!("`{unit}` is no unit of size"),
                    hint: "the units are B, KiB, MiB, GiB, TiB (powers of 1024) and KB, MB, GB, TB (powers of 1000)"
                        .to_owned(),
                },
            });
        }
    };
    number.times(factor).filter(|bytes| *bytes <= GREATEST).ok_or_else(|| QuantityError {
        what: format!("`{text}` is no size a machine can have"),
        hint: "a size is a whole number of bytes up to 8 PiB".to_owned(),
    })
}

/// Reads `10MiB/s` into bytes per second.
pub(super) fn parse_rate(text: &str) -> Result<u64, QuantityError> {
    let Some(size) = text.strip_suffix("/s") else {
        return Err(QuantityError {
            what: format!("`{text}` is no rate"),
            hint: "write a size per second, like \"10MiB/s\"".to_owned(),
        });
    };
    parse_size(size)
}

/// Reads `94%` into 94.
pub(super) fn parse_percent(text: &str) -> Result<f64, QuantityError> {
    let number = text.strip_suffix('%').filter(|number| Decimal::parse(number).is_some());
    number.and_then(|number| number.parse().ok()).ok_or_else(|| QuantityError {
        what: format!("`{text}` is no percentage"),
        hint: match Decimal::parse(text) {
            Some(_) => format!("write \"{text}%\""),
            None => "write a number and the sign, like \"94%\"".to_owned(),
        },
    })
}

/// The shortest exact text, `90m` rather than `1.5h`; what [`parse_duration`] reads. Below a millisecond is cut.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, factor): &&(&str, u64)| millis.is_multiple_of(*factor);
    match DURATION_UNITS.iter().rev().find(fits) {
        Some((unit, factor)) if millis > 0 => format!("{}{unit}", millis / factor),
        Some(_) | None => "0s".to_owned(),
    }
}

/// The shortest exact text; what [`parse_size`] reads.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    let texts = SIZE_UNITS
        .iter()
        .filter(|(unit, factor)| *unit != "kB" && bytes.is_multiple_of(*factor))
        .map(|(unit, factor)| format!("{}{unit}", bytes / factor));
    // Among equally short texts the first, so powers of 1024 win.
    texts.reduce(|best, text| if text.len() < best.len() { text } else { best }).unwrap_or_else(|| format!("{bytes}B"))
}

/// Splits a number from what follows it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// An unsigned decimal number, exactly.
struct Decimal<'t> {
    written: &'t str,
    digits: u64,
    /// The number is `digits / scale`.
    scale: u64,
}

impl<'t> Decimal<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Self { written: text, digits: format!("{whole}{fraction}").parse().ok()?, scale })
    }

    /// The product, when it is a whole number.
    fn times(&self, factor: u64) -> Option<u64> {
        let product = u128::from(self.digits) * u128::from(factor);
        let scale = u128::from(self.scale);
        if product.is_multiple_of(scale) { u64::try_from(product / scale).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_are_exact() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("45GB"), Ok(45_000_000_000));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_rate("10MiB/s"), Ok(10 << 20));
        assert_eq!(parse_percent("94%"), Ok(94.0));
        assert_eq!(format_duration(Duration::from_secs(5400)), "90m");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_size(45_000_000_000), "45GB");
        assert_eq!(format_size(512 << 20), "512MiB");
        assert_eq!(format_size(1_048_577), "1048577B");
    }

    #[test]
    fn what_could_mean_two_things_is_an_error_that_names_both() {
        let say = |result: Result<u64, QuantityError>| result.unwrap_err().to_string();
        insta::assert_snapshot!(say(parse_size("45G")), @r#"`45G` could mean powers of 1024 or of 1000; write "45GiB" (1024) or "45GB" (1000)"#);
        insta::assert_snapshot!(say(parse_size("45gib")), @r#"`45gib` could mean powers of 1024 or of 1000; write "45GiB" (1024) or "45GB" (1000)"#);
        insta::assert_snapshot!(say(parse_size("45")), @r#"the size `45` has no unit; write "45GiB", "45MiB" or, for bytes, "45B""#);
        insta::assert_snapshot!(say(parse_size("0.1B")), @"`0.1B` is no size a machine can have; a size is a whole number of bytes up to 8 PiB");
        let say = |result: Result<Duration, QuantityError>| result.unwrap_err().to_string();
        insta::assert_snapshot!(say(parse_duration("5")), @r#"the duration `5` has no unit; write "5s", "5ms" or, for minutes, "5m""#);
        insta::assert_snapshot!(say(parse_duration("5 min")), @r#"`min` is no unit of time; write "5m""#);
        insta::assert_snapshot!(say(parse_duration("1h30m")), @"`h30m` is no unit of time; the units are ms, s, m (minutes), h, d; one number, one unit");
        insta::assert_snapshot!(say(parse_duration("-5s")), @r#"`-5s` is no duration; write a number and a unit: "500ms", "30s", "5m", "6h", "1d""#);
        insta::assert_snapshot!(say(parse_duration("99999d")), @"`99999d` is longer than ten years; write a shorter time, or leave the key out for its default");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 0..=LONGEST, bytes in 0..=GREATEST) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_a_quantity_or_a_message(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_rate(&text), parse_percent(&text));
        }
    }
}
