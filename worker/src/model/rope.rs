//! Rotary position encoding with MLX's fused operation.

use mlx_rs::error::Exception;
use mlx_rs::{Array, fast};

use super::shape::{self, RopeScaling};
use super::weights::side;

/// Ready to rotate.
#[derive(Debug)]
pub(super) struct Rope {
    dimensions: i32,
    traditional: bool,
    /// Exactly one of base and wavelengths is set.
    base: Option<f32>,
    wavelengths: Option<Array>,
    scale: f32,
}

impl Rope {
    /// `factors` are the stretch factors some files bring, one per wavelength.
    pub(super) fn new(rope: &shape::Rope, head_dim: u32, factors: Option<&[f32]>) -> Self {
        let plain = wavelengths(rope.theta, head_dim);
        let (wavelengths, scale) = match &rope.scaling {
            RopeScaling::None => (None, 1.0),
            RopeScaling::Linear(factor) => (None, 1.0 / factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let stretch =
                    |length: f32| llama3(length, *factor, *low_freq_factor, *high_freq_factor, *original_context);
                (Some(plain.into_iter().map(stretch).collect::<Vec<_>>()), 1.0)
            }
            RopeScaling::Factors => {
                let factors = factors.unwrap_or_default().iter().copied().chain(std::iter::repeat(1.0));
                (Some(plain.into_iter().zip(factors).map(|(length, factor)| length * factor).collect()), 1.0)
            }
        };
        Self {
            dimensions: side(head_dim),
            traditional: rope.traditional,
            base: wavelengths.is_none().then_some(rope.theta),
            wavelengths: wavelengths.map(|lengths| Array::from_slice(&lengths, &[side(head_dim / 2)])),
            scale,
        }
    }

    /// Rotates `x` [1, heads, tokens, head_dim], whose first token is at position `offset`.
    pub(super) fn rotate(&self, x: &Array, offset: i32) -> Result<Array, Exception> {
        fast::rope(x, self.dimensions, self.traditional, self.base, self.scale, offset, self.wavelengths.as_ref())
    }
}

/// theta^(2i/d): radians per token are its inverse.
fn wavelengths(theta: f32, head_dim: u32) -> Vec<f32> {
    #[allow(clippy::cast_precision_loss, reason = "head dimensions are a few hundred")]
    (0..head_dim / 2).map(|pair| theta.powf((2 * pair) as f32 / head_dim as f32)).collect()
}

fn llama3(length: f32, factor: f32, low: f32, high: f32, original: f32) -> f32 {
    let turns = original / (std::f32::consts::TAU * length);
    if turns < low {
        length * factor
    } else if turns > high {
        length
    } else {
        let keep = (turns - low) / (high - low);
        length / ((1.0 - keep) / factor + keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_short_wavelengths_and_stretches_long_ones() {
        let lengths = wavelengths(500_000.0, 64);
        let stretched: Vec<f32> = lengths.iter().map(|l| llama3(*l, 32.0, 1.0, 4.0, 8192.0)).collect();
        assert_eq!(stretched[0], lengths[0]);
        assert_eq!(stretched[31], lengths[31] * 32.0);
        assert!(stretched.windows(2).all(|pair| pair[0] < pair[1]), "order is kept");
        let between = lengths.iter().zip(&stretched).filter(|(l, s)| *s > *l && **s < *l * 31.9).count();
        assert!(between > 0, "some are blended");
    }
}
