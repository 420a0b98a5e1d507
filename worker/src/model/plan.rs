//! What a model will cost in memory, decided before a weight is read.

use super::{OpenedModel, StoredTensor};

/// In which form weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Everything unpacked to 32-bit floats: on the CPU quantised products are many times slower than BLAS.
    Float32,
    /// As stored in the file.
    Stored,
}

/// Form and bytes of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The form chosen.
    pub precision: Precision,
    /// Bytes to read from disk.
    pub stored_bytes: u64,
    /// Bytes that stay resident.
    pub weights_bytes: u64,
}

impl Plan {
    /// On the CPU the model is unpacked when that takes at most three quarters of `budget` bytes (the rest is for keys,
    /// values and scratch); anywhere else it stays as stored.
    #[must_use]
    pub fn new(model: &OpenedModel, on_cpu: bool, budget: u64) -> Self {
        let stored_bytes = model.tensors.iter().map(|tensor| tensor.bytes).sum();
        let unpacked = model.tensors.iter().map(|tensor| unpacked_bytes(model, tensor)).fold(0, u64::saturating_add);
        if on_cpu && unpacked <= budget / 4 * 3 {
            Self { precision: Precision::Float32, stored_bytes, weights_bytes: unpacked }
        } else {
            Self { precision: Precision::Stored, stored_bytes, weights_bytes: stored_bytes }
        }
    }
}

fn unpacked_bytes(model: &OpenedModel, tensor: &StoredTensor) -> u64 {
    let Some((module, kind)) = tensor.name.rsplit_once('.') else { return tensor.bytes };
    match (model.shape.matrix(module), kind) {
        (Some((rows, columns)), "weight") => u64::from(rows) * u64::from(columns) * 4,
        // Consumed while unpacking.
        (Some(_), "scales" | "biases") => 0,
        // Norms and vectors: at most doubled, from 16 to 32 bits.
        _ => tensor.bytes.saturating_mul(2),
    }
}
