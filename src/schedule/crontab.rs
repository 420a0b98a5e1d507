//! The grammar of crontab text: fields, names, ranges, steps.
//!
//! Owns what a field may say and every message about it. Knows no calendar: which days exist is the `cron` crate's part.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ScheduleError;

/// Longest accepted text. A list of every second of a minute takes about 170 bytes.
const MAX_TEXT: usize = 1024;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTHS_LONG: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DAYS_LONG: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// One column of a crontab line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    Weekday,
    Year,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::Weekday => "weekday",
            Self::Year => "year",
        }
    }

    /// Smallest and greatest number. Years are what the `cron` crate knows.
    fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
            Self::Year => (1970, 2100),
        }
    }

    fn allowed(self) -> String {
        let (low, high) = self.bounds();
        match self {
            Self::Month => format!("a {} is {low}–{high} or jan–dec", self.name()),
            Self::Weekday => format!("a {} is 0–7 (0 and 7 are Sunday) or sun–sat", self.name()),
            Self::Hour => format!("an {} is {low}–{high}", self.name()),
            Self::Second | Self::Minute | Self::DayOfMonth | Self::Year => {
                format!("a {} is {low}–{high}", self.name())
            }
        }
    }

    fn named(self, text: &str) -> Option<u32> {
        let lower = text.to_ascii_lowercase();
        let find = |short: &[&str], long: &[&str]| {
            short.iter().position(|name| *name == lower).or_else(|| long.iter().position(|name| *name == lower))
        };
        let (index, first) = match self {
            Self::Month => (find(MONTHS, MONTHS_LONG)?, 1),
            Self::Weekday => (find(DAYS, DAYS_LONG)?, 0),
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth | Self::Year => return None,
        };
        u32::try_from(index).ok().map(|index| index + first)
    }
}

/// What one column admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    values: BTreeSet<u32>,
    /// Written with a leading `*` or as `?`: crontab does not count such a day column as restricting.
    pub starred: bool,
    /// Contains a `*` or a step: the schedule means an interval, not hours of the day.
    pub repeating: bool,
}

impl Field {
    fn only(value: u32) -> Self {
        Self { values: BTreeSet::from([value]), starred: false, repeating: false }
    }

    fn any(column: Column) -> Self {
        let (low, high) = column.bounds();
        let high = if column == Column::Weekday { 6 } else { high };
        Self { values: (low..=high).collect(), starred: true, repeating: true }
    }

    /// The admitted numbers as a list the `cron` crate reads, `add` to each.
    pub fn listed(&self, add: u32) -> String {
        self.values.iter().map(|value| (value + add).to_string()).collect::<Vec<_>>().join(",")
    }
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub second: Field,
    pub minute: Field,
    pub hour: Field,
    pub day_of_month: Field,
    pub month: Field,
    /// 0–6 from Sunday.
    pub weekday: Field,
    pub year: Field,
}

/// Parses 5 fields (crontab), 6 (seconds first), 7 (and a year last) or an `@name`.
pub(super) fn parse(text: &str) -> Result<Line, ScheduleError> {
    let whole = 0..text.len();
    let fail = |what: String, hint: &str| ScheduleError { what, hint: hint.to_owned(), span: whole.clone() };
    if text.len() > MAX_TEXT {
        return Err(fail(format!("a schedule of {} bytes is too long", text.len()), "the longest accepted has 1024"));
    }
    let trimmed = text.trim();
    if trimmed.starts_with('@') {
        let Some(line) = named_line(&trimmed.to_ascii_lowercase()) else {
            return Err(fail(
                format!("there is no schedule called `{trimmed}`"),
                "use @hourly, @daily, @weekly, @monthly or @yearly, or five fields like \"0 4 * * *\"",
            ));
        };
        return parse(line);
    }
    let words: Vec<(usize, &str)> = words(text).collect();
    let columns: &[Column] = match words.len() {
        5 => &[Column::Minute, Column::Hour, Column::DayOfMonth, Column::Month, Column::Weekday],
        6 => &[Column::Second, Column::Minute, Column::Hour, Column::DayOfMonth, Column::Month, Column::Weekday],
        7 => &[
            Column::Second,
            Column::Minute,
            Column::Hour,
            Column::DayOfMonth,
            Column::Month,
            Column::Weekday,
            Column::Year,
        ],
        0 => return Err(fail("the schedule is empty".to_owned(), "for every day at 4:00 write \"0 4 * * *\"")),
        count => {
            let fields = if count == 1 { "1 field".to_owned() } else { format!("{count} fields") };
            return Err(fail(
                format!("a schedule has 5 fields, this has {fields}"),
                "minute, hour, day of month, month, weekday: \"0 4 * * *\" is every day at 4:00; \
                 6 or 7 fields have the seconds first",
            ));
        }
    };
    let mut line = Line {
        second: Field::only(0),
        minute: Field::only(0),
        hour: Field::only(0),
        day_of_month: Field::any(Column::DayOfMonth),
        month: Field::any(Column::Month),
        weekday: Field::any(Column::Weekday),
        year: Field::any(Column::Year),
    };
    for (column, (start, word)) in columns.iter().zip(words) {
        let field = parse_field(*column, start, word)?;
        match column {
            Column::Second => line.second = field,
            Column::Minute => line.minute = field,
            Column::Hour => line.hour = field,
            Column::DayOfMonth => line.day_of_month = field,
            Column::Month => line.month = field,
            Column::Weekday => line.weekday = field,
            Column::Year => line.year = field,
        }
    }
    Ok(line)
}

fn named_line(name: &str) -> Option<&'static str> {
    Some(match name {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return None,
    })
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn parse_field(column: Column, start: usize, word: &str) -> Result<Field, ScheduleError> {
    let mut field = Field { values: BTreeSet::new(), starred: false, repeating: false };
    let mut at = start;
    for (index, item) in word.split(',').enumerate() {
        let span = at..at + item.len();
        at = span.end + 1;
        if index == 0 {
            field.starred = item.starts_with('*') || item == "?";
        }
        parse_item(column, item, &span, &mut field)?;
    }
    Ok(field)
}

fn parse_item(column: Column, item: &str, span: &Range<usize>, field: &mut Field) -> Result<(), ScheduleError> {
    let fail = |what: String, hint: String| ScheduleError { what, hint, span: span.clone() };
    let (base, step) = match item.split_once('/') {
        Some((base, step)) => (base, Some(step)),
        None => (item, None),
    };
    let (low, high) = column.bounds();
    let step_by = match step {
        None => 1,
        Some(text) => match number(text) {
            Some(step) if (1..=high - low + 1).contains(&step) => step,
            Some(_) | None => {
                return Err(fail(
                    format!("`{item}` has no usable step"),
                    format!("after the slash comes a number from 1 to {}, like `*/2`", high - low + 1),
                ));
            }
        },
    };
    let day_column = matches!(column, Column::DayOfMonth | Column::Weekday);
    let values: Vec<u32> = if base == "*" || (base == "?" && day_column) {
        field.repeating = true;
        Field::any(column).values.into_iter().collect()
    } else {
        let single = |text: &str| -> Result<u32, ScheduleError> {
            match number(text).or_else(|| column.named(text)) {
                Some(value) if (low..=high).contains(&value) => Ok(value),
                Some(_) | None if item.is_empty() => {
                    Err(fail(format!("the list of the {} has an empty part", column.name()), column.allowed()))
                }
                Some(_) | None if text.is_empty() => {
                    Err(fail(format!("`{item}` is no {}", column.name()), column.allowed()))
                }
                Some(_) | None => Err(fail(format!("`{text}` is no {}", column.name()), column.allowed())),
            }
        };
        match base.split_once('-') {
            None if step.is_some() => (single(base)?..=high).collect(),
            None => vec![single(base)?],
            Some((first, last)) => {
                let (first, last) = (single(first)?, single(last)?);
                match (first <= last, column) {
                    (true, _) => (first..=last).collect(),
                    // The week is a circle: `fri-mon` is Friday to Monday.
                    (false, Column::Weekday) => (first..=last + 7).collect(),
                    (false, _) => {
                        return Err(fail(
                            format!("the range `{base}` runs backwards"),
                            format!("write `{first}-{high},{low}-{last}`"),
                        ));
                    }
                }
            }
        }
    };
    field.repeating |= step.is_some();
    let stepped = values.into_iter().step_by(usize::try_from(step_by).unwrap_or(usize::MAX));
    field.values.extend(stepped.map(|value| if column == Column::Weekday { value % 7 } else { value }));
    Ok(())
}

/// Plain digits only: no sign, no more than a year needs.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
