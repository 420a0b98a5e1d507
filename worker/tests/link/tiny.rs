//! A worker inside the test: weights of a few thousand numbers that say anything, and a vocabulary made to be cut.

use std::fs::write;
use std::path::Path;
use std::sync::Arc;

use mlxsup_worker::board::Board;
use mlxsup_worker::engine;
use mlxsup_worker::model::ModelSource;
use mlxsup_worker::serve::{EnginePort, Identity, Listener, Worker, serve};
use mlxsup_worker::text::Codec;
use mlxsup_worker_api::settings::Device;
use mlxsup_worker_api::{Phase, Settings, WiredLimit};
use serde_json::{Value, json};

use crate::wire::Link;

/// Ends an answer; the highest ids are special.
const END: usize = 126;

/// Serves until dropped.
pub struct Tiny {
    pub link: Link,
    server: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Tiny {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Tiny {
    pub async fn start(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_vocabulary(folder.path());
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny-untied");
        let settings = Settings {
            model: weights.display().to_string(),
            device: Device::Cpu,
            wired_limit: WiredLimit::Off,
            ..settings
        };
        let board = Arc::new(Board::default());
        let started = engine::start(&settings, &board).expect("an engine");
        let mut phase = board.phase.subscribe();
        phase.wait_for(|(phase, _)| *phase == Phase::Ready).await.expect("a board");
        let worker = Worker::new(Arc::clone(&board), settings, Identity::default());
        let codec = Codec::open(&ModelSource::Folder(folder.path().to_owned())).expect("a text side");
        let engine: Arc<dyn EnginePort> = Arc::new(started.handle);
        assert!(worker.codec.set(Arc::new(codec)).is_ok() && worker.engine.set(engine).is_ok());
        let link = Link(folder.path().join("worker.sock"));
        let listener = Listener::unix(&link.0).expect("a listener");
        Self { link, server: tokio::spawn(serve(Arc::new(worker), listener)), _folder: folder }
    }
}

/// Characters in several tokens, several characters in one, tokens that end inside the next one's character, parts of
/// stop strings, and words that look like the link's own.
fn pieces() -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = (b'a'..=b'z').chain(*b" \n.\"\\").map(|byte| vec![byte]).collect();
    for character in ["é", "東", "🦀"] {
        pieces.extend(character.bytes().map(|byte| vec![byte]));
        pieces.push(character.as_bytes().to_vec());
    }
    let cut: [&[u8]; 6] = [b"x\xE6\x9D", b"\x9D\xB1", b"\xF0\x9F", b"\xA6\x80 y", b"\xA9\xC3", b"\xFF"];
    pieces.extend(cut.map(<[u8]>::to_vec));
    let words = ["S", "T", "O", "P", "ST", "OP", "STOP", "STO", " the", "\n\n", "END", "EN", "data: ", "event: end"];
    pieces.extend(words.map(|word| word.as_bytes().to_vec()));
    pieces.push(b"\"finish_reason\":\"stop\"".to_vec());
    pieces.extend((pieces.len()..END).map(|id| format!("<{id}>").into_bytes()));
    // A byte can have one entry only.
    let mut seen = std::collections::BTreeSet::new();
    for (id, piece) in pieces.iter_mut().enumerate() {
        if !seen.insert(piece.clone()) {
            *piece = format!("<{id}>").into_bytes();
        }
    }
    pieces
}

/// GPT-2's printable stand-in for a byte.
fn stand_in(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let before = (0..byte).filter(|byte| !is_printable(*byte)).count() as u32;
    let code = if is_printable(byte) { u32::from(byte) } else { 0x100 + before };
    char::from_u32(code).expect("a character")
}

fn write_vocabulary(folder: &Path) {
    let mut vocabulary = serde_json::Map::new();
    for (id, piece) in pieces().into_iter().enumerate() {
        vocabulary.insert(piece.into_iter().map(stand_in).collect(), json!(id));
    }
    assert_eq!(vocabulary.len(), END);
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = |name: &str, document: Value| write(folder.join(name), document.to_string()).expect("a file");
    file(
        "tokenizer.json",
        json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [special(END, "<|im_end|>"), special(END + 1, "<|im_start|>")],
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}),
    );
    file(
        "tokenizer_config.json",
        json!({"eos_token": "<|im_end|>", "bos_token": "<|im_start|>",
            "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}),
    );
    file("generation_config.json", json!({"eos_token_id": END}));
}
