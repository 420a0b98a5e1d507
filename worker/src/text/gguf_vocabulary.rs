//! The text side of a GGUF file: its vocabulary, merges and template from the metadata.
//!
//! Owns the meaning of `tokenizer.*` keys. Byte-level BPE vocabularies are supported, with the pre-tokenisers whose
//! exact rules are known: a wrong one would silently degrade every answer, so an unknown one is refused.

use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::gguf::{Header, Value};

use super::pieces::Decoding;
use super::template::{ChatTemplate, Sources};
use super::{Codec, TextError, Tokenizer, stop_id_set};

/// `tokenizer.ggml.token_type` of tokens that are never shown.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type` of tokens that are matched whole, and shown.
const USER_DEFINED: i64 = 4;

/// Control tokens that end an answer in some model family; files name only one or two of theirs by id.
const ENDINGS: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|return|>",
];

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

pub(super) fn open(header: &Header, path: &Path) -> Result<Codec, TextError> {
    let unsupported = |what: String| TextError::Unsupported { path: path.to_owned(), what };
    let damaged = |what: &str| TextError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let text = |key: &str| header.metadata(key).and_then(Value::as_str);

    let kind = text("tokenizer.ggml.model").ok_or_else(|| damaged("it has no tokenizer (tokenizer.ggml.model)"))?;
    if kind != "gpt2" {
        return Err(unsupported(format!(
            "its tokenizer `{kind}` is not supported (only `gpt2`, byte-level BPE, is); use the model's folder with tokenizer.json"
        )));
    }
    let tokens = header
        .metadata("tokenizer.ggml.tokens")
        .and_then(Value::as_strings)
        .ok_or_else(|| damaged("tokenizer.ggml.tokens is missing"))?;
    let merges = header
        .metadata("tokenizer.ggml.merges")
        .and_then(Value::as_strings)
        .ok_or_else(|| damaged("tokenizer.ggml.merges is missing"))?;
    let rules = Rules::named(text("tokenizer.ggml.pre").unwrap_or("default")).map_err(unsupported)?;

    let vocabulary: Vocab = (0_u32..).zip(tokens).map(|(id, token)| (token.clone(), id)).collect();
    // A merge is two tokens with a space between; a token itself may begin with the stand-in, never with a space.
    let merges: Option<Merges> = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect();
    let merges = merges.ok_or_else(|| damaged("tokenizer.ggml.merges has an entry that is not two tokens"))?;
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(rules.whole_words_first)
        .build()
        .map_err(|error| damaged(&format!("its tokenizer is inconsistent: {error}")))?;

    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(rules.pre_tokenizer));
    if rules.composes {
        inner.with_normalizer(Some(NFC));
    }
    let types = header.metadata("tokenizer.ggml.token_type").and_then(Value::as_integers).unwrap_or_default();
    let of_type = |wanted: i64| {
        let special = wanted == CONTROL;
        let matching = tokens.iter().zip(types).filter(move |(_, kind)| **kind == wanted);
        matching.map(move |(token, _)| AddedToken::from(token.as_str(), special).normalized(false)).collect::<Vec<_>>()
    };
    inner.add_special_tokens(&of_type(CONTROL));
    inner.add_tokens(&of_type(USER_DEFINED));

    let id = |key: &str| header.metadata(key).and_then(Value::as_u32).filter(|id| (*id as usize) < tokens.len());
    let token = |id: u32| tokens.get(id as usize).cloned();
    let bos = id("tokenizer.ggml.bos_token_id");
    let eos = id("tokenizer.ggml.eos_token_id");
    let adds_bos = header.metadata("tokenizer.ggml.add_bos_token").and_then(Value::as_bool);
    let first = bos.filter(|_| adds_bos.unwrap_or(rules.begins_with_bos));
    let tokenizer = Tokenizer::new(inner, &Decoding::byte_level(), first);

    let mut stop_ids: Vec<u32> =
        ["eos", "eot", "eom"].iter().filter_map(|n| id(&format!("tokenizer.ggml.{n}_token_id"))).collect();
    let is_control = |id: u32| types.get(id as usize) == Some(&CONTROL);
    stop_ids.extend(ENDINGS.iter().filter_map(|ending| tokenizer.id_of(ending)).filter(|id| is_control(*id)));

    let mut sources = Sources { default: text("tokenizer.chat_template").map(str::to_owned), ..Sources::default() };
    for (key, id) in [("bos_token", bos), ("eos_token", eos)] {
        if let Some(text) = id.and_then(token) {
            sources.special_tokens.insert(key.to_owned(), text);
        }
    }
    Ok(Codec { tokenizer, template: ChatTemplate::compile(sources), stop_ids: stop_id_set(stop_ids) })
}

/// How one family cuts text before merging.
struct Rules {
    pre_tokenizer: PreTokenizerWrapper,
    /// A word that is in the vocabulary as a whole is taken without merging.
    whole_words_first: bool,
    /// Text is brought into composed form first.
    composes: bool,
    /// Default of `add_bos_token`.
    begins_with_bos: bool,
}

impl Rules {
    /// By the name that GGUF files use. The error names what is known.
    fn named(name: &str) -> Result<Self, String> {
        let simple =
            |pre_tokenizer| Self { pre_tokenizer, whole_words_first: false, composes: false, begins_with_bos: false };
        match name {
            "smollm" => {
                let parts = vec![Digits::new(true).into(), byte_level(true)];
                Ok(simple(Sequence::new(parts).into()))
            }
            "default" | "gpt-2" => Ok(simple(byte_level(true))),
            "llama-bpe" | "llama3" | "llama-v3" => {
                Ok(Self { whole_words_first: true, begins_with_bos: true, ..simple(split_by(LLAMA3)?) })
            }
            "qwen2" | "deepseek-r1-qwen" => Ok(Self { composes: true, ..simple(split_by(QWEN2)?) }),
            other => Err(format!(
                "its pre-tokeniser `{other}` is not known (known: smollm, llama-bpe, qwen2, gpt-2, default); \
                 use the model's folder with tokenizer.json"
            )),
        }
    }
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, true, use_regex).into()
}

/// Words by a regular expression, then bytes.
fn split_by(pattern: &str) -> Result<PreTokenizerWrapper, String> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(|error| error.to_string())?;
    Ok(Sequence::new(vec![split.into(), byte_level(false)]).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn cut(name: &str, text: &str) -> Vec<String> {
        let rules = Rules::named(name).expect("known rules");
        let mut words = PreTokenizedString::from(text);
        rules.pre_tokenizer.pre_tokenize(&mut words).expect("words");
        let words = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        words.into_iter().map(|(word, _, _)| word.replace('Ġ', "_")).collect()
    }

    #[test]
    fn families_differ_in_their_digits() {
        assert_eq!(cut("smollm", "in 1984"), ["in", "_", "1", "9", "8", "4"]);
        assert_eq!(cut("gpt-2", "in 1984"), ["in", "_1984"]);
        assert_eq!(cut("llama-bpe", "in 1984"), ["in", "_", "198", "4"]);
        assert_eq!(cut("qwen2", "in 1984"), ["in", "_", "1", "9", "8", "4"]);
    }

    #[test]
    fn unknown_rules_are_refused_by_name() {
        let error = Rules::named("tekken").err().expect("refused");
        assert!(error.contains("`tekken`") && error.contains("qwen2"), "{error}");
    }
}
