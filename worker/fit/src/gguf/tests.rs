use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Builds GGUF bytes field by field.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(tensors: u64, metadata: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(metadata)
    }
    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }
    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }
    fn parse(&self) -> Result<Header, GgufError> {
        Header::parse(self.0.as_slice(), self.0.len() as u64, Path::new("m.gguf"))
    }
}

fn sample() -> Bytes {
    Bytes::header(1, 6)
        .text("general.architecture")
        .u32(8)
        .text("llama")
        .text("llama.block_count")
        .u32(4)
        .u32(30)
        .text("llama.rope.freq_base")
        .u32(6)
        .raw(&100_000f32.to_le_bytes())
        .text("tokenizer.ggml.tokens")
        .u32(9)
        .u32(8)
        .u64(2)
        .text("a")
        .text("Ġb")
        .text("tokenizer.ggml.token_type")
        .u32(9)
        .u32(5)
        .u64(2)
        .raw(&1i32.to_le_bytes())
        .raw(&(-3i32).to_le_bytes())
        .text("tokenizer.ggml.add_bos_token")
        .u32(7)
        .raw(&[1])
        .text("output.weight")
        .u32(2)
        .u64(64)
        .u64(2)
        .u32(2)
        .u64(0)
}

#[test]
fn metadata_and_tensors_are_read() {
    let header = sample().parse().unwrap();
    assert_eq!(header.metadata("general.architecture").and_then(Value::as_str), Some("llama"));
    assert_eq!(header.metadata("llama.block_count").and_then(Value::as_u32), Some(30));
    assert_eq!(header.metadata("llama.rope.freq_base").and_then(Value::as_f64), Some(100_000.0));
    assert_eq!(header.metadata("tokenizer.ggml.tokens").and_then(Value::as_strings).unwrap(), ["a", "Ġb"]);
    assert_eq!(header.metadata("tokenizer.ggml.token_type").and_then(Value::as_integers), Some(&[1, -3][..]));
    assert_eq!(header.metadata("tokenizer.ggml.add_bos_token").and_then(Value::as_bool), Some(true));
    assert!(header.metadata("absent").is_none());
    let [tensor] = header.tensors() else { panic!("one tensor") };
    assert_eq!((tensor.name.as_str(), tensor.kind, tensor.bytes()), ("output.weight", TensorType::Q4_0, Some(72)));
    assert_eq!(header.data_offset() % 32, 0);
    assert_eq!(header.entries().count(), 6);
}

#[test]
fn a_file_that_is_something_else_says_so() {
    for bytes in [&b""[..], b"GG", b"PK\x03\x04 and so on"] {
        assert!(matches!(Bytes(bytes.to_vec()).parse(), Err(GgufError::NotGguf { .. })));
    }
    let old = Bytes(b"GGUF".to_vec()).u32(1).u32(0).u32(0);
    assert!(matches!(old.parse(), Err(GgufError::Version { version: 1, .. })));
}

#[test]
fn every_cut_is_an_error() {
    let whole = sample().0;
    for length in 0..whole.len() {
        assert!(Bytes(whole[..length].to_vec()).parse().is_err(), "cut at {length} was accepted");
    }
}

#[test]
fn lying_lengths_are_refused_without_allocating() {
    let claims = [
        Bytes::header(u64::MAX, 0),
        Bytes::header(0, u64::MAX),
        Bytes::header(0, 1).u64(u64::MAX),
        Bytes::header(0, 1).u64(MAX_STRING),
        Bytes::header(0, 1).text("k").u32(9).u32(8).u64(MAX_ARRAY),
        Bytes::header(0, 1).text("k").u32(9).u32(9).u64(1),
        Bytes::header(0, 1).text("k").u32(99),
        Bytes::header(1, 0).text("t").u32(u32::MAX),
        Bytes::header(1, 0).text("t").u32(2).u64(u64::MAX).u64(3).u32(0).u64(0),
    ];
    for claim in claims {
        assert!(matches!(claim.parse(), Err(GgufError::Damaged { .. })));
    }
}

#[test]
fn a_file_shorter_than_its_tensors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, sample().0).unwrap();
    assert!(matches!(Header::read(&path), Err(GgufError::Truncated { .. })));

    let mut whole = sample().0;
    let data_offset = usize::try_from(sample().parse().unwrap().data_offset()).unwrap();
    whole.resize(data_offset + 72, 0);
    std::fs::write(&path, whole).unwrap();
    assert!(Header::read(&path).is_ok());
}

#[test]
fn a_missing_file_and_a_folder_are_io_errors() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("absent.gguf"), folder.path().to_owned()] {
        assert!(matches!(Header::read(&path), Err(GgufError::Io { .. })));
    }
}

proptest! {
    #[test]
    fn damaged_headers_never_panic(index in 0usize..400, byte in any::<u8>()) {
        let mut bytes = sample();
        let index = index % bytes.0.len();
        bytes.0[index] = byte;
        let _ = bytes.parse();
    }
}
