use super::*;
use crate::control::view::EventView;

/// A day of a worker that grows, is restarted at noon, and is quiet for an hour after it.
pub fn day() -> HistoryView {
    let begin = 1_800_057_600;
    let point = |index: i64| {
        let gib = (1u64 << 30) as f64;
        let mean = (34.0 + (index % 144) as f64 / 30.0) * gib;
        (begin + index * 300, mean - 0.3 * gib, mean, mean + 0.5 * gib)
    };
    let event = |second: i64, kind: &str| EventView {
        at: chrono::DateTime::from_timestamp(begin + second, 0).unwrap().to_rfc3339(),
        kind: kind.to_owned(),
        message: "told elsewhere".to_owned(),
    };
    HistoryView {
        schema: 1,
        since: event(0, "").at,
        until: event(86_400, "").at,
        step_s: 300,
        recorded_since: None,
        metrics: vec![
            CurveView {
                metric: "worker.footprint".to_owned(),
                unit: "bytes".to_owned(),
                points: (0..144).chain(156..288).map(point).collect(),
            },
            CurveView { metric: "kv.bytes".to_owned(), unit: "bytes".to_owned(), points: Vec::new() },
        ],
        events: vec![event(30_000, "rule_fired"), event(43_200, "restart_done"), event(60_000, "worker_crashed")],
    }
}

#[test]
fn a_png_has_its_size_and_its_colours() {
    let file = png(&day()).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((frame.width, frame.height), (1600, 660));
    let has = |colour: RGBColor| rgb.chunks(3).any(|pixel| pixel == [colour.0, colour.1, colour.2]);
    assert!(has(PAPER) && has(INK) && has(CURVE) && has(GRAVE) && has(ORDINARY));
    assert!(file.len() < 100_000, "{} bytes", file.len());
    if let Some(folder) = std::env::var_os("HISTORY_PICTURES") {
        std::fs::write(std::path::Path::new(&folder).join("day.png"), &file).unwrap();
    }
}

#[test]
fn an_svg_says_what_it_shows() {
    let text = String::from_utf8(svg(&day()).unwrap()).unwrap();
    assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
    for word in
        ["worker.footprint", "Memory of the worker", "40.0 GiB", "restart (1)", "worker died (1)", "not reported"]
    {
        assert!(text.contains(word), "no {word}");
    }
    if let Some(folder) = std::env::var_os("HISTORY_PICTURES") {
        std::fs::write(std::path::Path::new(&folder).join("day.svg"), &text).unwrap();
    }
}
