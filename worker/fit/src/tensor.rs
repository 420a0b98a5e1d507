//! A tensor as a header describes it.

/// A tensor on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name in the Hugging Face convention, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// True when the elements are packed, a few bits each.
    pub quantised: bool,
    /// Numbers in it: for packed ones the words, unless the header knows better.
    pub elements: u64,
    /// Bytes of one number; `None` where they are packed.
    pub element_bytes: Option<u64>,
}
