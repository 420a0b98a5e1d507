//! Curves as a picture: a panel per metric, the band from lowest to highest, the mean, marks as lines.
//!
//! One drawing for both formats. SVG leaves letters to whoever shows it; in a PNG they come from a pixel font, so that no
//! font of the machine is needed and the same history gives the same picture everywhere.

mod pixels;

use plotters::coord::Shift;
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea, IntoFont, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor, TextStyle};

use crate::ctl::render::history::{MARKS, mark, seconds};
use crate::ctl::render::metric::{Scale, number, words};
use crate::ctl::render::time_axis;
use crate::history::view::{CurveView, HistoryView};
use crate::memory::{Metric, Unit};
use pixels::Pixels;

/// Pixels of the whole, and of one panel's parts.
const WIDTH: u32 = 1600;
const PANEL: i32 = 300;
const LEGEND: i32 = 60;
const LEFT: i32 = 130;
const RIGHT: i32 = 40;
const TOP: i32 = 50;
const BOTTOM: i32 = 50;
/// Numbers at the sides.
const VALUES: usize = 4;
const TIMES: usize = 10;
const LETTERS: f64 = 18.0;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(224, 227, 232);
const CURVE: RGBColor = RGBColor(38, 110, 190);
const GRAVE: RGBColor = RGBColor(200, 40, 40);
const ORDINARY: RGBColor = RGBColor(214, 140, 20);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The drawing.
    #[error("{0}")]
    Drawing(String),
    /// The file format.
    #[error(transparent)]
    Format(#[from] png::EncodingError),
}

/// One of the formats: from curves to a file's content.
pub type Draw = fn(&HistoryView) -> Result<Vec<u8>, PictureError>;

/// A picture of lines, which can be enlarged.
///
/// # Errors
/// None that a history could cause.
pub fn svg(view: &HistoryView) -> Result<Vec<u8>, PictureError> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, size(view)).into_drawing_area(), view)?;
    Ok(text.into_bytes())
}

/// A picture of dots.
///
/// # Errors
/// None that a history could cause.
pub fn png(view: &HistoryView) -> Result<Vec<u8>, PictureError> {
    let (width, height) = size(view);
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    draw(&Pixels::new(width, height, &mut rgb).into_drawing_area(), view)?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(file)
}

fn size(view: &HistoryView) -> (u32, u32) {
    let panels = u32::try_from(view.metrics.len().max(1)).unwrap_or(1);
    (WIDTH, panels * PANEL as u32 + LEGEND as u32)
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, view: &HistoryView) -> Result<(), PictureError> {
    let failed =
        |error: plotters::drawing::DrawingAreaErrorKind<B::ErrorType>| PictureError::Drawing(error.to_string());
    area.fill(&PAPER).map_err(failed)?;
    for (index, curve) in view.metrics.iter().enumerate() {
        let top = i32::try_from(index).unwrap_or(0) * PANEL + TOP;
        panel(area, view, curve, (top, top + PANEL - TOP - BOTTOM)).map_err(failed)?;
    }
    let foot = i32::try_from(view.metrics.len()).unwrap_or(0) * PANEL + LEGEND / 2;
    area.draw(&Text::new(legend(view), (LEFT, foot), letters(INK, HPos::Left, VPos::Center))).map_err(failed)?;
    area.present().map_err(failed)
}

type Drawn<B> = Result<(), plotters::drawing::DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    view: &HistoryView,
    curve: &CurveView,
    (top, foot): (i32, i32),
) -> Drawn<B> {
    let metric: Option<Metric> = curve.metric.parse().ok();
    let unit = metric.map_or(Unit::Count, Metric::unit);
    let right = WIDTH as i32 - RIGHT;
    let (from, until) = (seconds(&view.since), seconds(&view.until));
    let x = |at: f64| LEFT + ((at - from) / (until - from).max(1.0) * f64::from(right - LEFT)).round() as i32;
    let title = format!("{}  {}", curve.metric, metric.map_or("", words));
    area.draw(&Text::new(title, (LEFT, top - 14), letters(INK, HPos::Left, VPos::Bottom)))?;
    let lowest = curve.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = curve.points.iter().map(|point| point.3).fold(f64::NEG_INFINITY, f64::max);
    let nothing = curve.points.is_empty();
    let scale = if nothing { Scale::of(0.0, 1.0, unit, 1) } else { Scale::of(lowest, highest, unit, VALUES) };
    let y = |value: f64| foot - (scale.share(value) * f64::from(foot - top)).round() as i32;
    for value in scale.ticks().filter(|_| !nothing) {
        area.draw(&PathElement::new(vec![(LEFT, y(value)), (right, y(value))], FAINT))?;
        let style = letters(INK, HPos::Right, VPos::Center);
        area.draw(&Text::new(number(value, unit), (LEFT - 10, y(value)), style))?;
    }
    for (at, text) in time_axis::ticks(from as i64, until as i64, TIMES) {
        let place = x(at as f64);
        area.draw(&PathElement::new(vec![(place, foot), (place, foot + 6)], INK))?;
        area.draw(&Text::new(text, (place, foot + 12), letters(INK, HPos::Center, VPos::Top)))?;
    }
    for event in &view.events {
        let Some(letter) = mark(&event.kind) else { continue };
        let (place, colour) = (x(seconds(&event.at)), colour_of(letter));
        area.draw(&PathElement::new(vec![(place, top), (place, foot)], colour.mix(0.6)))?;
        let style = letters(colour, HPos::Center, VPos::Bottom);
        area.draw(&Text::new(letter.to_string(), (place, top - 2), style))?;
    }
    for stretch in stretches(curve, view.step_s) {
        let middle = |at: i64| x(at as f64 + view.step_s as f64 / 2.0);
        let over = stretch.iter().map(|point| (middle(point.0), y(point.3)));
        let under = stretch.iter().rev().map(|point| (middle(point.0), y(point.1)));
        area.draw(&Polygon::new(over.chain(under).collect::<Vec<_>>(), CURVE.mix(0.25)))?;
        let mean: Vec<_> = stretch.iter().map(|point| (middle(point.0), y(point.2))).collect();
        area.draw(&PathElement::new(mean, CURVE.stroke_width(2)))?;
    }
    if nothing {
        let style = letters(INK, HPos::Center, VPos::Center);
        let place = (i32::midpoint(LEFT, right), i32::midpoint(top, foot));
        area.draw(&Text::new("nothing recorded; not reported here".to_owned(), place, style))?;
    }
    area.draw(&Rectangle::new([(LEFT, top), (right, foot)], INK))
}

/// Points without a gap between them. A lone one is drawn a step wide.
fn stretches(curve: &CurveView, step: i64) -> Vec<Vec<(i64, f64, f64, f64)>> {
    let mut stretches: Vec<Vec<_>> = Vec::new();
    for point in &curve.points {
        match stretches.last_mut() {
            Some(stretch) if stretch.last().is_some_and(|last: &(i64, f64, f64, f64)| point.0 - last.0 <= step) => {
                stretch.push(*point);
            }
            _ => stretches.push(vec![*point]),
        }
    }
    for stretch in stretches.iter_mut().filter(|stretch| stretch.len() == 1) {
        stretch.push((stretch[0].0 + step, stretch[0].1, stretch[0].2, stretch[0].3));
    }
    stretches
}

fn colour_of(letter: char) -> RGBColor {
    if matches!(letter, 'k' | 'p' | 'x') { GRAVE } else { ORDINARY }
}

fn letters(colour: RGBColor, across: HPos, along: VPos) -> TextStyle<'static> {
    let style = TextStyle::from(("monospace", LETTERS).into_font()).pos(Pos::new(across, along));
    TextStyle { color: colour.to_backend_color(), ..style }
}

fn legend(view: &HistoryView) -> String {
    let marks = MARKS.iter().filter_map(|(letter, word, kinds)| {
        let count = view.events.iter().filter(|event| kinds.contains(&event.kind.as_str())).count();
        (count > 0).then(|| format!("{letter} {word} ({count})"))
    });
    let ends = [&view.since, &view.until].map(|at| time_axis::instant(seconds(at) as i64));
    std::iter::once(ends.join(" to ")).chain(marks).collect::<Vec<_>>().join("   ")
}

#[cfg(test)]
mod tests;
