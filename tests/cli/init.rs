//! `init`: a first configuration, chosen or named, and what is never overwritten.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::hub::{Shop, llama};

#[test]
fn what_comes_next_names_the_home_that_was_named() {
    let shop = Shop::stocked();
    let home = shop.home.path().join("other");
    let screen = shop.run(&["--home", home.to_str().unwrap(), "init"]);
    assert!(screen.contains("`mlxsupctl --home [HOME]/other install`"), "{screen}");
    assert!(screen.contains("`mlxsupd --home [HOME]/other`"), "{screen}");
}

fn mode(shop: &Shop, file: &str) -> u32 {
    std::fs::metadata(shop.home.path().join(file)).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_largest_model_that_fits_is_chosen() {
    let shop = Shop::stocked();
    assert_snapshot!(shop.run(&["init"]));
    let text = std::fs::read_to_string(shop.config()).unwrap();
    assert!(text.lines().count() <= 20, "{text}");
    assert_eq!((mode(&shop, "mlxsup.toml"), mode(&shop, "api.key")), (0o600, 0o600));
    assert!(shop.run(&["config", "check"]).ends_with("--- exit 0\n"));
    let key = std::fs::read_to_string(shop.home.path().join("api.key")).unwrap();
    let (name, secret) = key.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!((name, secret.len()), ("me", 48));
    // The key file is one that the daemon accepts.
    shop.configure(&format!("{text}\n[listen]\ntcp = \"127.0.0.1:11535\"\napi_key_file = \"api.key\"\n"));
    let screen = shop.run(&["config", "check"]);
    assert!(screen.ends_with("--- exit 0\n"), "{screen}");
}

#[test]
fn a_model_that_only_mlx_lm_runs() {
    let shop = Shop::stocked();
    shop.run(&["init", "--model", "mlx-community/Qwen3.5-35B-A3B-8bit"]);
    assert_snapshot!(std::fs::read_to_string(shop.config()).unwrap());
}

#[test]
fn nothing_is_overwritten() {
    let shop = Shop::stocked();
    shop.configure("# mine\n");
    assert_snapshot!(shop.run(&["init"]));
    assert_eq!(std::fs::read_to_string(shop.config()).unwrap(), "# mine\n");
    std::fs::remove_file(shop.config()).unwrap();
    std::fs::write(shop.home.path().join("api.key"), "mine\n").unwrap();
    let screen = shop.run(&["init"]);
    assert!(screen.contains("api.key is kept") && screen.ends_with("--- exit 0\n"), "{screen}");
    assert_eq!(std::fs::read_to_string(shop.home.path().join("api.key")).unwrap(), "mine\n");
}

#[test]
fn a_folder_is_written_with_its_whole_path() {
    let shop = Shop::mac(16.0, 0.0);
    shop.put("some/Small", &llama(), 1 << 30);
    let snapshot = shop.home.path().join("hub/models--some--Small/snapshots/c0ffee");
    let document = shop.json(&["init", "--json", "--model", snapshot.to_str().unwrap()]);
    assert_eq!(document["model"]["model"].as_str().unwrap(), "[HOME]/hub/models--some--Small/snapshots/c0ffee");
    assert_eq!(document["api_key_written"], true);
}

#[test]
fn without_models_and_with_a_wrong_one() {
    let shop = Shop::mac(16.0, 0.0);
    assert_snapshot!(shop.run(&["init"]));
    assert_snapshot!(shop.run(&["init", "--model", "/no/such/model"]));
    assert!(!shop.config().exists() && !shop.home.path().join("api.key").exists());
}
