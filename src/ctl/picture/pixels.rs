//! A sheet of pixels that the drawing library can draw on, with letters of its own.

use std::convert::Infallible;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_9X18;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::{Baseline, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Every letter's box.
const LETTER: (u32, u32) = (9, 18);

/// Red, green and blue of every pixel, line by line.
pub struct Pixels<'a> {
    width: u32,
    height: u32,
    rgb: &'a mut [u8],
}

impl<'a> Pixels<'a> {
    /// A sheet over this memory, three bytes to a pixel.
    pub fn new(width: u32, height: u32, rgb: &'a mut [u8]) -> Self {
        Self { width, height, rgb }
    }

    fn blend(&mut self, (x, y): (i32, i32), (red, green, blue): (u8, u8, u8), alpha: f64) {
        let inside = |at: i32, end: u32| u32::try_from(at).ok().filter(|at| *at < end);
        let (Some(x), Some(y)) = (inside(x, self.width), inside(y, self.height)) else { return };
        let at = 3 * (y as usize * self.width as usize + x as usize);
        let Some(pixel) = self.rgb.get_mut(at..at + 3) else { return };
        for (old, new) in pixel.iter_mut().zip([red, green, blue]) {
            *old = (f64::from(*old) * (1.0 - alpha) + f64::from(new) * alpha).round() as u8;
        }
    }
}

impl DrawingBackend for Pixels<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Result<(), DrawingErrorKind<Infallible>> {
        self.blend(point, color.rgb, color.alpha);
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let (width, height) = self.estimate_text_size(text, style)?;
        let (width, height) = (i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
        let left = match style.anchor().h_pos {
            HPos::Left => x,
            HPos::Center => x - width / 2,
            HPos::Right => x - width,
        };
        let top = match style.anchor().v_pos {
            VPos::Top => y,
            VPos::Center => y - height / 2,
            VPos::Bottom => y - height,
        };
        let (red, green, blue) = style.color().rgb;
        let letters = MonoTextStyle::new(&FONT_9X18, Rgb888::new(red, green, blue));
        match Text::with_baseline(text, Point::new(left, top), letters, Baseline::Top).draw(self) {
            Ok(_) => Ok(()),
            Err(never) => match never {},
        }
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        Ok((LETTER.0 * u32::try_from(text.chars().count()).unwrap_or(0), LETTER.1))
    }
}

impl OriginDimensions for Pixels<'_> {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Pixels<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            self.blend((point.x, point.y), (color.r(), color.g(), color.b()), 1.0);
        }
        Ok(())
    }
}
