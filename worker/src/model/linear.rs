//! A matrix in either form, used as a projection or as an embedding.

use mlx_rs::error::Exception;
use mlx_rs::ops::{dequantize, quantized_matmul};
use mlx_rs::{Array, Dtype};

/// A weight matrix of `rows` × `columns`, applied to row vectors from the right.
#[derive(Debug)]
pub(super) enum Matrix {
    /// Plain numbers; kept as the transpose, which is a view.
    Dense {
        /// [rows, columns]
        weight: Array,
        /// [columns, rows]
        transposed: Array,
    },
    /// Packed affine groups.
    Quantised {
        /// [rows, columns · bits / 32], 32-bit words.
        packed: Array,
        /// [rows, columns / group]
        scales: Array,
        /// [rows, columns / group]
        biases: Array,
        /// Columns that share one scale.
        group: i32,
        /// Bits of one number.
        bits: i32,
    },
}

impl Matrix {
    pub(super) fn dense(weight: Array) -> Result<Self, Exception> {
        let transposed = weight.transpose_axes(&[1, 0])?;
        Ok(Self::Dense { weight, transposed })
    }

    /// The matrix unpacked to 32-bit floats.
    pub(super) fn into_float32(self) -> Result<Self, Exception> {
        let plain = match self {
            Self::Dense { weight, .. } => weight.as_dtype(Dtype::Float32)?,
            Self::Quantised { packed, scales, biases, group, bits } => {
                let (scales, biases) = (scales.as_dtype(Dtype::Float32)?, biases.as_dtype(Dtype::Float32)?);
                dequantize(packed, scales, &biases, group, bits)?
            }
        };
        Self::dense(plain)
    }

    /// The same matrix for activations of `dtype`; packed numbers stay packed.
    pub(super) fn into_dtype(self, dtype: Dtype) -> Result<Self, Exception> {
        match self {
            same if same.dtype() == dtype => Ok(same),
            Self::Dense { weight, .. } => Self::dense(weight.as_dtype(dtype)?),
            Self::Quantised { packed, scales, biases, group, bits } => {
                let (scales, biases) = (scales.as_dtype(dtype)?, biases.as_dtype(dtype)?);
                Ok(Self::Quantised { packed, scales, biases, group, bits })
            }
        }
    }

    /// `x` [.., columns] → [.., rows].
    pub(super) fn project(&self, x: &Array) -> Result<Array, Exception> {
        match self {
            Self::Dense { transposed, .. } => x.matmul(transposed),
            Self::Quantised { packed, scales, biases, group, bits } => {
                quantized_matmul(x, packed, scales, biases, true, *group, *bits)
            }
        }
    }

    /// The rows called `ids`: from shape `[n]` to `[n, columns]`.
    pub(super) fn rows(&self, ids: &Array) -> Result<Array, Exception> {
        match self {
            Self::Dense { weight, .. } => weight.take_axis(ids, 0),
            Self::Quantised { packed, scales, biases, group, bits } => dequantize(
                packed.take_axis(ids, 0)?,
                scales.take_axis(ids, 0)?,
                &biases.take_axis(ids, 0)?,
                *group,
                *bits,
            ),
        }
    }

    /// Type of what [`Self::rows`] and, for activations of that type, [`Self::project`] return.
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Dense { weight, .. } => weight.dtype(),
            Self::Quantised { scales, .. } => scales.dtype(),
        }
    }

    /// The arrays that own memory.
    pub(super) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense { weight, .. } => vec![weight],
            Self::Quantised { packed, scales, biases, .. } => vec![packed, scales, biases],
        }
    }
}

/// A projection with an optional bias.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Array>,
}

impl Linear {
    pub(super) fn forward(&self, x: &Array) -> Result<Array, Exception> {
        let product = self.matrix.project(x)?;
        match &self.bias {
            Some(bias) => product.add(bias),
            None => Ok(product),
        }
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.matrix.arrays();
        arrays.extend(&self.bias);
        arrays
    }
}
