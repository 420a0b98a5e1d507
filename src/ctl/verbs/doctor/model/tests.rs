use std::fs;

use super::*;

/// One tensor of 16 bytes.
fn weights(data: usize) -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"mlx"},"a":{"dtype":"F16","shape":[8],"data_offsets":[0,16]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn judged(name: &Path, cache: &Path) -> Vec<(Level, &'static str)> {
    let model = Model::look(name.to_str().unwrap().to_owned(), cache.to_owned());
    judge(&model).iter().map(|finding| (finding.level, finding.code)).collect()
}

const INDEX: &str = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors","c":"model-2.safetensors"}}"#;

#[test]
fn a_whole_folder_is_good_and_weighed() {
    let small = |text: &str| text.as_bytes().to_vec();
    let model = folder(&[
        ("config.json", small("{}")),
        ("tokenizer.json", small("{}")),
        ("model-1.safetensors", weights(16)),
        ("model-2.safetensors", weights(16)),
        ("model.safetensors.index.json", small(INDEX)),
    ]);
    assert_eq!(judged(model.path(), model.path()), [(Level::Ok, "model")]);
    let found = Model::look(model.path().to_str().unwrap().to_owned(), PathBuf::new());
    assert_eq!(found.bytes(), Some(2 * weights(16).len() as u64));

    fs::remove_file(model.path().join("model-2.safetensors")).unwrap();
    fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let expected = [(Level::Problem, "shard_missing"), (Level::Problem, "tokenizer_missing")];
    assert_eq!(judged(model.path(), model.path()), expected);

    fs::write(model.path().join("model-1.safetensors"), weights(3)).unwrap();
    assert_eq!(judged(model.path(), model.path())[1], (Level::Problem, "file_short"));
    fs::write(model.path().join("model-1.safetensors"), "version https://git-lfs").unwrap();
    assert_eq!(judged(model.path(), model.path())[1], (Level::Problem, "file_damaged"));
    fs::write(model.path().join("model.safetensors.index.json"), "[").unwrap();
    assert_eq!(judged(model.path(), model.path())[0], (Level::Problem, "index_bad"));
    fs::remove_file(model.path().join("model.safetensors.index.json")).unwrap();
    fs::remove_file(model.path().join("model-1.safetensors")).unwrap();
    assert_eq!(judged(model.path(), model.path())[0], (Level::Problem, "weights_missing"));
}

#[test]
fn a_gguf_file_is_judged_by_its_head() {
    let head = |version: u32, tensors: u64| {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.resize(200, 0);
        bytes
    };
    let cases = [
        (head(3, 2), (Level::Ok, "model")),
        (head(1, 2), (Level::Problem, "file_damaged")),
        (head(3, 999_999), (Level::Problem, "file_damaged")),
        (b"<html>".to_vec(), (Level::Problem, "file_damaged")),
    ];
    for (bytes, expected) in cases {
        let model = folder(&[("m.gguf", bytes)]);
        assert_eq!(judged(&model.path().join("m.gguf"), model.path()), [expected]);
        assert_eq!(judged(model.path(), model.path()), [expected], "a folder with one file is that file");
    }
    let two = folder(&[("a.gguf", head(3, 2)), ("b.gguf", head(3, 2))]);
    assert_eq!(judged(two.path(), two.path()), [(Level::Problem, "model_several")]);
    assert_eq!(judged(folder(&[]).path(), two.path()), [(Level::Problem, "model_none")]);
}

#[test]
fn a_hub_id_is_looked_for_in_the_cache() {
    let cache = folder(&[
        ("models--some--Model/refs/main", b"abc\n".to_vec()),
        ("models--some--Model/snapshots/abc/config.json", b"{}".to_vec()),
        ("models--some--Model/snapshots/abc/tokenizer.json", b"{}".to_vec()),
        ("models--some--Model/blobs/1.incomplete", b"x".to_vec()),
    ]);
    let name = Path::new("some/Model");
    let blob = cache.path().join("models--some--Model/blobs/2");
    let link = cache.path().join("models--some--Model/snapshots/abc/model.safetensors");
    std::os::unix::fs::symlink(&blob, link).unwrap();
    let expected = [(Level::Problem, "shard_missing"), (Level::Warning, "download_unfinished")];
    assert_eq!(judged(name, cache.path()), expected, "a link that leads nowhere is a missing file");
    fs::write(&blob, weights(16)).unwrap();
    assert_eq!(judged(name, cache.path()), [(Level::Note, "download_unfinished"), (Level::Ok, "model")]);
    assert_eq!(judged(Path::new("other/Model"), cache.path()), [(Level::Problem, "model_missing")]);
    let absent = Model::look("other/Model".to_owned(), cache.path().to_owned());
    assert_eq!(judge(&absent)[0].mend.as_deref(), Some("hf download other/Model"));
}
