//! What a worker says, and how it exits, when it cannot serve what it was given: one clear message each.
#![allow(clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Standard error and exit status of `mlxsup-worker --model MODEL --prompt hello`, paths replaced.
fn refusal(model: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mlxsup-worker"))
        .arg("--model")
        .arg(model)
        .args(["--prompt", "hello"])
        .env("RUST_LOG", "off")
        .env("HF_HUB_CACHE", "HUB")
        .output()
        .expect("the worker");
    let said = String::from_utf8(output.stderr).expect("text");
    let folder = model.parent().expect("a folder").display().to_string();
    format!("{}{}", said.replace(&folder, "FOLDER"), output.status)
}

fn tiny() -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/reference/tiny-mixed.gguf"].iter().collect();
    std::fs::read(path).expect("the tiny model")
}

/// The file with the type of one tensor replaced: name, number of dimensions, that many 64-bit lengths, type.
fn retyped(mut file: Vec<u8>, tensor: &str, to: u32) -> Vec<u8> {
    let name = tensor.as_bytes();
    let after = file.windows(name.len()).position(|window| window == name).expect("the tensor") + name.len();
    let dimensions = u32::from_le_bytes(file[after..after + 4].try_into().expect("4 bytes")) as usize;
    let at = after + 4 + 8 * dimensions;
    file[at..at + 4].copy_from_slice(&to.to_le_bytes());
    file
}

fn in_a_folder(name: &str, content: Option<&[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    if let Some(content) = content {
        std::fs::write(&path, content).expect("a file");
    }
    (folder, path)
}

#[test]
fn a_missing_model() {
    let (_folder, path) = in_a_folder("none.gguf", None);
    insta::assert_snapshot!(refusal(&path));
}

#[test]
fn a_quantisation_mlx_cannot_take() {
    // 12 is Q4_K in GGUF's list of types.
    let (_folder, path) = in_a_folder("model.gguf", Some(&retyped(tiny(), "blk.0.attn_q.weight", 12)));
    insta::assert_snapshot!(refusal(&path));
}

#[test]
fn a_file_that_is_no_gguf() {
    let (_folder, path) = in_a_folder("model.gguf", Some(b"PK\x03\x04 this is a zip file, and not a short one"));
    insta::assert_snapshot!(refusal(&path));
}

#[test]
fn a_folder_without_a_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("empty");
    std::fs::create_dir(&path).expect("a folder");
    insta::assert_snapshot!(refusal(&path));
}
