//! The engine: one thread that owns MLX and steps over a set of sequences.

pub mod sequence;
