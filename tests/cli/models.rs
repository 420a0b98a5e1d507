//! `models`: what lies in the hub cache and how much of it fits, on machines that do not exist.

use insta::assert_snapshot;
use serde_json::json;

use super::hub::{Shop, llama};

#[test]
fn on_the_operators_machine() {
    assert_snapshot!(Shop::stocked().run(&["models"]));
}

#[test]
fn the_configured_model_comes_first_and_bad_ones_say_why() {
    let shop = Shop::stocked();
    shop.configure("[worker]\nmodel = \"some/absent\"\n");
    shop.put("odd/Cut-Short", &llama(), 1 << 30);
    let file = shop.home.path().join("hub/models--odd--Cut-Short/snapshots/c0ffee/model.safetensors");
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(500).unwrap();
    shop.put("odd/Senseless", &json!({"model_type": "llama"}), 1 << 30);
    assert_snapshot!(shop.run(&["models"]));
}

#[test]
fn without_a_gpu() {
    let shop = Shop::linux(23.5);
    shop.put("mlx-community/Llama-3.2-3B-8bit", &llama(), 3_212_749_824);
    assert_snapshot!(shop.run(&["models"]));
}

/// Weights that a CPU unpacks have two sizes, and neither is called by the other's name.
#[test]
fn what_a_cpu_unpacks_is_told_on_disk_and_in_memory() {
    let shop = Shop::linux(64.0);
    shop.put("mlx-community/Llama-3.2-3B-8bit", &llama(), 3_212_749_824);
    assert_snapshot!(shop.run(&["models"]));
    shop.configure("[worker]\nmodel = \"mlx-community/Llama-3.2-3B-8bit\"\n");
    let screen = shop.run(&["tune"]);
    assert!(screen.contains("3.2 GiB on disk, 12.0 GiB in memory"), "{screen}");
}

#[test]
fn as_json() {
    let shop = Shop::stocked();
    let document = shop.json(&["models", "--json"]);
    assert_eq!((document["schema"].as_u64(), document["machine"]["gpu"].as_bool()), (Some(1), Some(true)));
    let models = document["models"].as_array().unwrap();
    let named = |name: &str| models.iter().find(|model| model["model"] == name).unwrap();
    let hybrid = named("mlx-community/Qwen3.5-35B-A3B-8bit");
    assert_eq!((hybrid["fits"].as_bool(), hybrid["engine"].as_str()), (Some(true), Some("mlx_lm")));
    assert_eq!(
        (hybrid["kv_bytes_per_token"].as_u64(), hybrid["fixed_bytes_per_sequence"].as_u64()),
        (Some(20_480), Some(64_389_120))
    );
    let big = named("big/Llama-70B-8bit");
    assert!(big["fits"] == false && big["too_big_by_bytes"].as_u64().unwrap() > 1 << 34, "{big}");
}

#[test]
fn an_empty_cache() {
    assert_snapshot!(Shop::mac(16.0, 0.0).run(&["models"]));
}
