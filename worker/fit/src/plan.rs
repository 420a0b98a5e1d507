//! In which form weights are kept, decided before one is read.

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
    pub const fn new(stored_bytes: u64, unpacked_bytes: u64, on_cpu: bool, budget: u64) -> Self {
        if on_cpu && unpacked_bytes <= budget / 4 * 3 {
            Self { precision: Precision::Float32, stored_bytes, weights_bytes: unpacked_bytes }
        } else {
            Self { precision: Precision::Stored, stored_bytes, weights_bytes: stored_bytes }
        }
    }
}
