//! What sequences cost: keys and values per token, state per sequence, and scratch while a prompt is read.
//!
//! Owns the shapes of the kinds of layers that remember something: full attention, sliding windows, latent attention
//! (MLA) and gated delta nets, whose state does not grow.

use serde_json::Value;

/// Tokens by which caches grow.
pub const BLOCK: u64 = 256;

/// Head widths whose attention is fused on Metal: no matrix of scores is ever in memory.
const FUSED: [u64; 5] = [64, 72, 80, 96, 128];

/// Scratch of one fused prefill chunk, bytes per token: 0.4 GB at 2048 tokens, measured as the difference between the
/// peaks of models with and without scores.
const FUSED_SCRATCH: u64 = 200_000;

/// The layers that remember, summed up. Elements are numbers, not bytes: their width depends on how the model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attention {
    /// Query heads of one layer.
    pub query_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Elements one token adds, over all layers that keep every token.
    pub elements_per_token: u64,
    /// Elements one token adds in layers with a window, over all of them.
    pub window_elements: u64,
    /// Tokens such a layer keeps.
    pub window: u64,
    /// Bytes every sequence costs whatever its length.
    pub state_bytes: u64,
}

impl Attention {
    /// Keys and values of one sequence of `tokens`, read in chunks of `chunk`, with `element` bytes per number. Caches
    /// grow in blocks of 256 tokens; the fixed state is not in it.
    #[must_use]
    pub fn kv_bytes(&self, tokens: u64, chunk: u64, element: u64) -> u64 {
        let blocks = tokens.checked_next_multiple_of(BLOCK).unwrap_or(tokens);
        let windowed = tokens.min(self.window.saturating_add(chunk).saturating_sub(1));
        let full = self.elements_per_token.saturating_mul(blocks);
        full.saturating_add(self.window_elements.saturating_mul(windowed)).saturating_mul(element)
    }

    /// Bytes one more token costs in a long sequence.
    #[must_use]
    pub const fn kv_bytes_per_token(&self, element: u64) -> u64 {
        self.elements_per_token.saturating_mul(element)
    }

    /// True when a prompt is read without a matrix of scores.
    #[must_use]
    pub fn is_fused(&self) -> bool {
        FUSED.contains(&self.head_dim)
    }

    /// Scratch while `chunk` tokens are read behind `tokens`: the scores of one layer, unless attention is fused.
    #[must_use]
    pub fn scratch_bytes(&self, tokens: u64, chunk: u64, element: u64, gpu: bool) -> u64 {
        if gpu && self.is_fused() {
            return chunk.saturating_mul(FUSED_SCRATCH);
        }
        let scores = self.query_heads.saturating_mul(chunk.min(tokens)).saturating_mul(tokens);
        scores.saturating_mul(element)
    }

    /// From a `config.json`, whose language part may lie in `text_config`.
    ///
    /// # Errors
    /// The key that is missing or senseless.
    pub fn of_config(config: &Value) -> Result<Self, String> {
        let number = |key: &str| config.get(key).and_then(Value::as_u64).filter(|number| *number <= MOST);
        let needed = |key: &str| number(key).ok_or_else(|| format!("`{key}` is missing or not a usable number"));
        let layers = needed("num_hidden_layers")?;
        let query_heads = needed("num_attention_heads")?;
        let kv_heads = number("num_key_value_heads").unwrap_or(query_heads);
        let head_dim = match number("head_dim") {
            Some(width) => width,
            None => needed("hidden_size")?.checked_div(query_heads).unwrap_or(0),
        };
        if layers == 0 || layers > MOST_LAYERS || query_heads == 0 || kv_heads == 0 || head_dim == 0 {
            return Err("`num_hidden_layers`, the heads or their width are senseless".to_owned());
        }
        let latent = number("kv_lora_rank").map(|rank| rank + number("qk_rope_head_dim").unwrap_or(0));
        let per_layer = latent.unwrap_or(2 * kv_heads * head_dim);
        let kinds = Kinds::of_config(config, layers);
        Ok(Self {
            query_heads,
            head_dim,
            elements_per_token: kinds.full.saturating_mul(per_layer),
            window_elements: kinds.windowed.saturating_mul(per_layer),
            window: number("sliding_window").unwrap_or(0),
            state_bytes: kinds.recurrent.saturating_mul(state_bytes(config)),
        })
    }
}

/// Largest number that makes sense; keeps products in 64 bits.
const MOST: u64 = 1 << 24;
const MOST_LAYERS: u64 = 10_000;

/// How many layers of each kind.
struct Kinds {
    full: u64,
    windowed: u64,
    recurrent: u64,
}

impl Kinds {
    fn of_config(config: &Value, layers: u64) -> Self {
        let number = |key: &str| config.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
        if let Some(types) = config.get("layer_types").and_then(Value::as_array) {
            let count = |wanted: &str| {
                types.iter().filter_map(Value::as_str).filter(|kind| kind.contains(wanted)).take(10_000).count() as u64
            };
            let (windowed, recurrent) = (count("sliding"), count("linear"));
            return Self { full: layers.saturating_sub(windowed + recurrent), windowed, recurrent };
        }
        if let Some(interval) = number("full_attention_interval").filter(|_| number("linear_num_value_heads").is_some())
        {
            return Self { full: layers / interval, windowed: 0, recurrent: layers - layers / interval };
        }
        // Gemma 3: every sixth layer sees everything.
        let pattern = number("sliding_window_pattern").or_else(|| {
            let gemma = config.get("model_type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("gemma3"));
            gemma.then_some(6)
        });
        match pattern.filter(|_| number("sliding_window").is_some()) {
            Some(pattern) => Self { full: layers / pattern, windowed: layers - layers / pattern, recurrent: 0 },
            None => Self { full: layers, windowed: 0, recurrent: 0 },
        }
    }
}

/// State of one gated delta net layer: a matrix per value head in 32 bits, and the tail of the convolution in 16.
fn state_bytes(config: &Value) -> u64 {
    let number = |key: &str| config.get(key).and_then(Value::as_u64).filter(|number| *number <= 1 << 16).unwrap_or(0);
    let (value_heads, key_heads) = (number("linear_num_value_heads"), number("linear_num_key_heads"));
    let (value_dim, key_dim) = (number("linear_value_head_dim"), number("linear_key_head_dim"));
    let matrix = value_heads.saturating_mul(value_dim).saturating_mul(key_dim).saturating_mul(4);
    let width = (2 * key_heads * key_dim).saturating_add(value_heads * value_dim);
    matrix.saturating_add(number("linear_conv_kernel_dim").saturating_sub(1).saturating_mul(width).saturating_mul(2))
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn qwen3_30b() -> Value {
        json!({
            "model_type": "qwen3_moe", "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 262_144,
            "quantization": {"group_size": 64, "bits": 8}
        })
    }

    pub(crate) fn qwen35_35b() -> Value {
        json!({
            "model_type": "qwen3_5_moe_text", "num_hidden_layers": 40, "hidden_size": 2048, "num_attention_heads": 16,
            "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4, "linear_num_value_heads": 32,
            "linear_num_key_heads": 16, "linear_value_head_dim": 128, "linear_key_head_dim": 128,
            "linear_conv_kernel_dim": 4, "max_position_embeddings": 262_144, "quantization": {"group_size": 64, "bits": 8}
        })
    }

    #[test]
    fn keys_and_values_of_the_worked_numbers() {
        let all_attention = Attention::of_config(&qwen3_30b()).unwrap();
        assert_eq!((all_attention.kv_bytes_per_token(2), all_attention.state_bytes), (98_304, 0));
        assert!(all_attention.is_fused());
        let hybrid = Attention::of_config(&qwen35_35b()).unwrap();
        assert_eq!((hybrid.kv_bytes_per_token(2), hybrid.state_bytes), (20_480, 64_389_120), "61.4 MiB");
        assert!(!hybrid.is_fused());
        for (tokens, gib) in [(8_192, 0.16), (32_768, 0.63), (65_536, 1.25), (131_072, 2.5), (262_144, 5.0)] {
            let found = hybrid.kv_bytes(tokens, 2048, 2) as f64 / f64::from(1 << 30);
            assert!((found - gib).abs() < 0.006, "{tokens}: {found}");
        }
        for (tokens, gib) in [(8_192, 0.5), (65_536, 4.0), (262_144, 16.0)] {
            let found = hybrid.scratch_bytes(tokens, 2048, 2, true) as f64 / f64::from(1 << 30);
            assert!((found - gib).abs() < 0.001, "{tokens}: {found}");
        }
        assert_eq!(all_attention.kv_bytes(262_144, 2048, 2), 24 << 30);
    }

    #[test]
    fn a_window_stops_growing_and_latent_attention_is_narrow() {
        let mut gemma = json!({
            "model_type": "gemma3_text", "num_hidden_layers": 26, "hidden_size": 1152, "num_attention_heads": 4,
            "num_key_value_heads": 1, "head_dim": 256, "sliding_window": 512
        });
        let found = Attention::of_config(&gemma).unwrap();
        assert_eq!((found.elements_per_token, found.window_elements), (4 * 512, 22 * 512));
        assert_eq!(
            found.kv_bytes(100_000, 256, 2) - found.kv_bytes(50_000, 256, 2),
            found.kv_bytes_per_token(2) * (100_096 - 50_176)
        );
        gemma["layer_types"] =
            (0..26).map(|layer| if layer % 2 == 0 { "sliding_attention" } else { "full_attention" }).collect();
        assert_eq!(Attention::of_config(&gemma).unwrap().elements_per_token, 13 * 512);
        let latent = json!({
            "num_hidden_layers": 61, "num_attention_heads": 128, "hidden_size": 7168, "kv_lora_rank": 512,
            "qk_rope_head_dim": 64
        });
        assert_eq!(Attention::of_config(&latent).unwrap().kv_bytes_per_token(2), 61 * 576 * 2);
    }

    #[test]
    fn what_is_missing_or_senseless_is_named() {
        for (config, word) in [
            (json!({}), "num_hidden_layers"),
            (json!({"num_hidden_layers": 2}), "num_attention_heads"),
            (json!({"num_hidden_layers": 2, "num_attention_heads": 2}), "hidden_size"),
            (json!({"num_hidden_layers": 2, "num_attention_heads": 0, "head_dim": 4}), "senseless"),
            (json!({"num_hidden_layers": u64::MAX, "num_attention_heads": 1, "head_dim": 4}), "num_hidden_layers"),
        ] {
            let error = Attention::of_config(&config).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_numbers_overflow(numbers in proptest::collection::vec(proptest::prelude::any::<u32>(), 12), tokens in proptest::prelude::any::<u64>()) {
            let keys = [
                "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window",
                "sliding_window_pattern", "full_attention_interval", "linear_num_value_heads", "linear_num_key_heads",
                "linear_value_head_dim", "linear_key_head_dim", "linear_conv_kernel_dim",
            ];
            let shifted = |index: usize| u64::from(numbers[index]) >> (index * 7 % 24);
            let config: serde_json::Map<String, Value> =
                keys.iter().enumerate().map(|(index, key)| ((*key).to_owned(), shifted(index).into())).collect();
            if let Ok(attention) = Attention::of_config(&Value::Object(config)) {
                let _ = attention.kv_bytes(tokens, tokens, 4);
                let _ = attention.scratch_bytes(tokens, 2048, 4, false);
            }
        }
    }
}
