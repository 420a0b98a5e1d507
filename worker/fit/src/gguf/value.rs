//! One metadata value, with the many integer and float widths of the format folded together.

/// A metadata value. Arrays are homogeneous in the format; nested arrays do not occur in models and are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of u8, u16, u32, u64.
    Unsigned(u64),
    /// Any of i8, i16, i32, i64.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// An array of any integer width.
    Integers(Vec<i64>),
    /// An array of f32 or f64.
    Floats(Vec<f32>),
    /// An array of truth values.
    Bools(Vec<bool>),
    /// An array of texts, for example `tokenizer.ggml.tokens`.
    Texts(Vec<String>),
}

impl Value {
    /// A non-negative integer of any width.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A non-negative integer that fits 32 bits, as token ids do.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        self.as_u64().and_then(|number| u32::try_from(number).ok())
    }

    /// Any number.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "metadata integers are small; a float is asked for")]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Unsigned(number) => Some(*number as f64),
            Self::Signed(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// A truth value.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An array of texts.
    #[must_use]
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// An array of integers, for example `tokenizer.ggml.token_type`.
    #[must_use]
    pub fn as_integers(&self) -> Option<&[i64]> {
        match self {
            Self::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// An array of floats, for example `tokenizer.ggml.scores`.
    #[must_use]
    pub fn as_floats(&self) -> Option<&[f32]> {
        match self {
            Self::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }
}
