//! The rows, their targets, and how they are printed.

use std::collections::BTreeMap;

use crate::figures::Spread;

/// One figure of every contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    OneUnixP50,
    OneUnixP99,
    OneTcpP50,
    OneTcpP99,
    ManyUnixP50,
    ManyUnixP99,
    ManyTcpP50,
    ManyTcpP99,
    RateUnix,
    RateTcp,
    CpuRequest,
    GapP50,
    GapP99,
    DelayP50,
    DelayP99,
    StepGapP50,
    StepGapP99,
    StepDelayP50,
    StepDelayP99,
    CpuEvent,
    CpuStepEvent,
    Flood,
    CpuFlood,
    Resident,
}

use Row::{
    CpuEvent, CpuFlood, CpuRequest, CpuStepEvent, DelayP50, DelayP99, Flood, GapP50, GapP99, ManyTcpP50, ManyTcpP99,
    ManyUnixP50, ManyUnixP99, OneTcpP50, OneTcpP99, OneUnixP50, OneUnixP99, RateTcp, RateUnix, Resident, StepDelayP50,
    StepDelayP99, StepGapP50, StepGapP99,
};

/// In the order of printing: heading, digits after the point.
pub const ROWS: [(Row, &str, usize); 24] = [
    (OneUnixP50, "+latency, 1 conn., socket, p50 ms", 3),
    (OneUnixP99, "+latency, 1 conn., socket, p99 ms", 3),
    (OneTcpP50, "+latency, 1 conn., TCP, p50 ms", 3),
    (OneTcpP99, "+latency, 1 conn., TCP, p99 ms", 3),
    (ManyUnixP50, "+latency, 64 at 1000/s, socket, p50 ms", 3),
    (ManyUnixP99, "+latency, 64 at 1000/s, socket, p99 ms", 3),
    (ManyTcpP50, "+latency, 64 at 1000/s, TCP, p50 ms", 3),
    (ManyTcpP99, "+latency, 64 at 1000/s, TCP, p99 ms", 3),
    (RateUnix, "requests/s, 64 conn., socket", 0),
    (RateTcp, "requests/s, 64 conn., TCP", 0),
    (CpuRequest, "CPU per request, socket, µs", 1),
    (GapP50, "+gap, 32 streams, p50 ms", 3),
    (GapP99, "+gap, 32 streams, p99 ms", 3),
    (DelayP50, "+delay per event, p50 ms", 3),
    (DelayP99, "+delay per event, p99 ms", 3),
    (StepGapP50, "+gap, 32 in step, p50 ms", 3),
    (StepGapP99, "+gap, 32 in step, p99 ms", 3),
    (StepDelayP50, "+delay per event, in step, p50 ms", 3),
    (StepDelayP99, "+delay per event, in step, p99 ms", 3),
    (CpuEvent, "CPU per event, µs", 1),
    (CpuStepEvent, "CPU per event, in step, µs", 1),
    (Flood, "events/s, 32 streams flat out", 0),
    (CpuFlood, "CPU per event, flat out, µs", 2),
    (Resident, "resident afterwards, MB", 1),
];

impl Row {
    /// True for what is told as a difference to the first column, within the round.
    fn is_added(self) -> bool {
        ROWS.iter().any(|(row, heading, _)| *row == self && heading.starts_with('+'))
    }
}

/// What was measured: per contender and row, one value per round.
#[derive(Debug, Default)]
pub struct Table {
    names: Vec<&'static str>,
    cells: BTreeMap<(usize, Row), Vec<f64>>,
}

impl Table {
    /// Of these contenders, the first being what the others are compared with.
    pub fn new(names: Vec<&'static str>) -> Self {
        Self { names, cells: BTreeMap::new() }
    }

    /// Adds the value of one round.
    pub fn add(&mut self, contender: usize, row: Row, value: f64) {
        self.cells.entry((contender, row)).or_default().push(value);
    }

    fn spread(&self, contender: usize, row: Row) -> Option<Spread> {
        let own = self.cells.get(&(contender, row))?;
        if contender == 0 || !row.is_added() {
            return Spread::of(own.clone());
        }
        let base = self.cells.get(&(0, row))?;
        Spread::of(own.iter().zip(base).map(|(own, base)| own - base).collect())
    }

    fn median(&self, name: &str, row: Row) -> Option<f64> {
        let contender = self.names.iter().position(|own| *own == name)?;
        self.spread(contender, row).map(|spread| spread.median)
    }

    /// All rows, each cell `median (least…most)`.
    pub fn lines(&self) -> Vec<String> {
        let mut grid =
            vec![std::iter::once(String::new()).chain(self.names.iter().map(|name| (*name).to_owned())).collect()];
        for (row, heading, digits) in ROWS {
            let mut line: Vec<String> = vec![heading.to_owned()];
            for contender in 0..self.names.len() {
                line.push(self.spread(contender, row).map_or_else(
                    || "-".to_owned(),
                    |Spread { least, median, most }| format!("{median:.digits$} ({least:.digits$}…{most:.digits$})"),
                ));
            }
            grid.push(line);
        }
        align(&grid)
    }

    /// The targets that these figures decide.
    pub fn targets(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut judge = |what: &str, value: Option<f64>, good: fn(f64, f64) -> bool, target: f64, unit: &str| {
            let sign = if good(0.0, 1.0) { "≤" } else { "≥" };
            lines.push(verdict(
                what,
                value,
                value.is_some_and(|value| good(value, target)),
                &format!("{sign} {target} {unit}"),
            ));
        };
        let at_most: fn(f64, f64) -> bool = |value, target| value <= target;
        let at_least: fn(f64, f64) -> bool = |value, target| value >= target;
        judge("added latency, one request, socket, p50", self.median("mlxsupd", OneUnixP50), at_most, 0.10, "ms");
        judge("added latency, one request, socket, p99", self.median("mlxsupd", OneUnixP99), at_most, 1.0, "ms");
        for (what, row) in [("socket", RateUnix), ("TCP", RateTcp)] {
            let beside = |other: &str| Some(self.median("mlxsupd", row)? / self.median(other, row)?);
            judge(&format!("requests/s, 64 conn., {what}, of nginx"), beside("nginx"), at_least, 0.8, "×");
            for other in ["haproxy", "hyper"] {
                judge(&format!("  the same of {other}, no target"), beside(other), at_least, 0.0, "×");
            }
        }
        judge("added gap, 32 streams, p99", self.median("mlxsupd", GapP99), at_most, 0.2, "ms");
        judge("added gap, 32 streams in step, p99", self.median("mlxsupd", StepGapP99), at_most, 0.2, "ms");
        judge("CPU per relayed event", self.median("mlxsupd", CpuEvent), at_most, 15.0, "µs");
        judge("CPU per relayed event, in step", self.median("mlxsupd", CpuStepEvent), at_most, 15.0, "µs");
        lines
    }
}

/// One target beside its figure.
pub fn verdict(what: &str, value: Option<f64>, good: bool, target: &str) -> String {
    let value = value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.3}"));
    let word = if value == "not measured" {
        "-"
    } else if good {
        "ok"
    } else {
        "MISSED"
    };
    format!("  {what:<46} {value:>12}   {target:<12} {word}")
}

/// Columns wide enough for what is in them.
fn align(grid: &[Vec<String>]) -> Vec<String> {
    let columns = grid.first().map_or(0, Vec::len);
    let width = |column: usize| grid.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let padded = |text: &String, width: usize, left: bool| {
        let blanks = " ".repeat(width - text.chars().count());
        if left { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
    };
    grid.iter()
        .map(|line| {
            let cells = line.iter().zip(&widths).enumerate();
            cells.map(|(column, (text, width))| padded(text, *width, column == 0)).collect::<Vec<_>>().join("  ")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_the_median_of_the_differences_in_each_round() {
        let mut table = Table::new(vec!["direct", "mlxsupd"]);
        // A slow round is slow for both.
        for (direct, own) in [(1.0, 1.1), (5.0, 5.2), (1.0, 1.3)] {
            table.add(0, OneUnixP50, direct);
            table.add(1, OneUnixP50, own);
            table.add(1, RateUnix, 100.0);
        }
        let median = table.median("mlxsupd", OneUnixP50).expect("measured");
        assert!((median - 0.2).abs() < 1e-9);
        assert!(table.targets()[0].ends_with("MISSED"), "{:?}", table.targets());
        assert!(table.lines()[1].contains("1.000 (1.000…5.000)"), "{:?}", table.lines());
    }
}
