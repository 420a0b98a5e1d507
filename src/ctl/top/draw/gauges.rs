//! The worker's memory: each part against what it may be, or what it is a part of.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Look, put};
use crate::ctl::render::metric::words;
use crate::ctl::render::progress::bar;
use crate::ctl::render::quantity::{size, size_of};
use crate::ctl::top::view::Known;
use crate::memory::Metric;

/// A shorter bar says less than the numbers beside it.
const BAR_MIN: usize = 5;

/// A longer one says no more.
const BAR_MAX: usize = 40;

struct Gauge {
    metric: Metric,
    value: f64,
    whole: Option<f64>,
}

/// The gauges that there are numbers for, the most telling first.
fn gauges(known: &Known) -> Vec<Gauge> {
    let memory = |metric: Metric| memory_of(known, metric);
    let limits = known.status.limits.as_ref();
    let limit = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes as f64);
    let mlx = limit(limits.and_then(|limits| limits.memory_limit_bytes));
    let cache = limit(limits.and_then(|limits| limits.cache_limit_bytes));
    let wired = limit(limits.and_then(|limits| limits.wired_limit_bytes));
    let all = [
        (Metric::WorkerFootprint, memory(Metric::SystemTotal)),
        (Metric::WorkerCompressed, memory(Metric::WorkerFootprint)),
        (Metric::MlxActive, mlx),
        (Metric::MlxCache, cache),
        (Metric::WorkerWired, wired),
        (Metric::MlxPeak, mlx),
        (Metric::KvBytes, None),
        (Metric::PrefixCacheBytes, None),
    ];
    let gauge = |(metric, whole): (Metric, Option<f64>)| Some(Gauge { metric, value: memory(metric)?, whole });
    all.into_iter().filter_map(gauge).collect()
}

fn memory_of(known: &Known, metric: Metric) -> Option<f64> {
    known.status.memory.get(metric.name()).copied().or_else(|| match metric {
        // Before the first sample the worker's own row knows it.
        Metric::WorkerFootprint => known.status.worker.as_ref()?.footprint_bytes.map(|bytes| bytes as f64),
        _ => None,
    })
}

/// How many there are.
pub fn count(known: &Known) -> usize {
    gauges(known).len()
}

/// As many as fit, one a line.
pub fn draw(buffer: &mut Buffer, area: Rect, known: &Known, look: Look) {
    let gauges = gauges(known);
    let shown = &gauges[..gauges.len().min(usize::from(area.height))];
    let length = |text: &str| text.chars().count();
    let names = shown.iter().map(|gauge| length(words(gauge.metric))).max().unwrap_or(0);
    let texts: Vec<_> = shown.iter().map(text).collect();
    let numbers = texts.iter().map(|text| length(text)).max().unwrap_or(0);
    let room = usize::from(area.width).saturating_sub(names + numbers + 5).min(BAR_MAX);
    let line = |(gauge, text): (&Gauge, &String)| {
        let name = Span::styled(format!("{:<names$}  ", words(gauge.metric)), look.dim());
        let bar = match gauge.whole {
            Some(whole) if room >= BAR_MIN => format!("{} ", bar(gauge.value / whole, room)),
            None if room >= BAR_MIN => " ".repeat(room + 3),
            Some(_) | None => String::new(),
        };
        Line::from(vec![name, Span::raw(bar), Span::raw(text.clone())])
    };
    put(buffer, area, &shown.iter().zip(&texts).map(line).collect::<Vec<_>>());
}

fn text(gauge: &Gauge) -> String {
    match gauge.whole {
        Some(whole) if whole > 0.0 => size_of(gauge.value, whole),
        Some(_) | None => size(gauge.value),
    }
}
