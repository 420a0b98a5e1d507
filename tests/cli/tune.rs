//! `tune`: the paper, what it would change, and the file afterwards.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::hub::Shop;

const MODEL: &str = "mlx-community/Qwen3.5-35B-A3B-8bit";

fn tuned(shop: &Shop, text: &str, arguments: &[&str]) -> String {
    shop.configure(&text.replace("MODEL", MODEL));
    shop.run(arguments)
}

/// What the operator guessed: 45 GiB wired, 48 GiB in all.
const GUESSED: &str = "# the article's three lines
[worker]
engine = \"mlx_lm\"   # knows the model
model = \"MODEL\"
slots = 2

[worker.memory]
wired_limit = \"45GiB\"     # pin the model in resident RAM
cache_limit = \"512MiB\"    # cap Metal compile/scratch
memory_limit = \"48GiB\"    # fail loud above this, don't OOM

[[schedule]]
name = \"nightly\"
cron = \"0 4 * * *\"
action = \"restart\"
";

#[test]
fn the_operators_guesses_on_paper() {
    assert_snapshot!(tuned(&Shop::stocked(), GUESSED, &["tune"]));
}

#[test]
fn applied_the_file_keeps_its_comments_and_its_mode() {
    let shop = Shop::stocked();
    shop.configure("");
    std::fs::set_permissions(shop.config(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let screen = tuned(&shop, GUESSED, &["tune", "--apply"]);
    let text = std::fs::read_to_string(shop.config()).unwrap();
    assert_snapshot!(format!("{}\n--- mlxsup.toml\n{text}", screen.split_once("\nchange").unwrap().1));
    assert_eq!(std::fs::metadata(shop.config()).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!shop.home.path().join("mlxsup.toml.new").exists());
    // What was advised is not advised again.
    assert!(shop.run(&["tune"]).contains("Nothing to change"), "{}", shop.run(&["tune"]));
}

#[test]
fn a_lower_memory_limit_is_the_operators_decision() {
    let shop = Shop::stocked();
    let decided = GUESSED.replace("48GiB", "40GiB");
    let screen = tuned(&shop, &decided, &["tune", "--apply"]);
    assert_snapshot!(screen);
    let text = std::fs::read_to_string(shop.config()).unwrap();
    assert!(text.contains("memory_limit = \"40GiB\"    # fail loud"), "{text}");
    // Where the model does not fit into it, that is what is said.
    let screen = tuned(&shop, &GUESSED.replace("48GiB", "30GiB"), &["tune"]);
    assert!(screen.contains("does not fit into the memory_limit you set"), "{screen}");
}

#[test]
fn a_memory_limit_above_what_the_machine_gives_is_lowered() {
    let shop = Shop::stocked();
    let screen = tuned(&shop, &GUESSED.replace("48GiB", "60GiB"), &["tune", "--apply"]);
    let text = std::fs::read_to_string(shop.config()).unwrap();
    assert!(text.contains("memory_limit = \"49GiB\"    # fail loud"), "{screen}");
}

/// `init` says what `auto` comes to behind each key. A key that is no longer `auto` needs no such word.
#[test]
fn what_init_wrote_about_auto_goes_with_it() {
    let shop = Shop::stocked();
    shop.run(&["init", "--model", MODEL]);
    let written = std::fs::read_to_string(shop.config()).unwrap();
    shop.configure(&written.replace("slots = \"auto\" ", "slots = 200 "));
    let screen = shop.run(&["tune", "--apply"]);
    let text = std::fs::read_to_string(shop.config()).unwrap();
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    assert_eq!(line("slots"), "slots = 8", "{screen}");
    assert!(line("context").contains("# auto is 167,168 of"), "{text}");
}

#[test]
fn a_short_file_stays_as_short_until_there_is_a_history() {
    let shop = Shop::stocked();
    let screen = tuned(&shop, "[worker]\nmodel = \"MODEL\"\n", &["tune", "--apply"]);
    assert!(screen.contains("left at \"auto\", 34.8 GiB, until a day of history"), "{screen}");
    assert!(screen.contains("Nothing to change") && screen.ends_with("--- exit 0\n"), "{screen}");
    let text = std::fs::read_to_string(shop.config()).unwrap();
    assert_eq!(text, format!("[worker]\nmodel = \"{MODEL}\"\n"));
}

#[test]
fn a_working_set_that_is_only_assumed_changes_nothing() {
    let shop = Shop::mac(64.0, 0.0);
    shop.put(MODEL, &super::hub::qwen35(), 34_660_610_688);
    assert_snapshot!(tuned(&shop, "[worker]\nmodel = \"MODEL\"\n", &["tune"]));
}

#[test]
fn a_model_that_is_too_big() {
    let shop = Shop::mac(48.0, 37.44);
    shop.put(MODEL, &super::hub::qwen35(), 34_660_610_688);
    assert_snapshot!(tuned(&shop, "[worker]\nmodel = \"MODEL\"\n", &["tune", "--apply"]));
}

#[test]
fn as_json_from_the_same_sums() {
    let shop = Shop::stocked();
    shop.configure(&GUESSED.replace("MODEL", MODEL));
    let document = shop.json(&["tune", "--json"]);
    let advice = &document["advice"];
    let terms = advice["wired_limit"]["terms"].as_array().unwrap();
    let sum: i64 = terms.iter().map(|term| term["bytes"].as_i64().unwrap()).sum();
    assert_eq!(Some(sum), advice["wired_limit"]["bytes"].as_i64());
    let keys: Vec<&str> =
        document["changes"].as_array().unwrap().iter().map(|change| change["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["worker.memory.wired_limit"]);
    assert_eq!(document["applied"], false);
}

#[test]
fn without_a_configuration_or_a_model() {
    let shop = Shop::stocked();
    assert_snapshot!(shop.run(&["tune"]));
    shop.configure("[worker]\nmodel = \"some/absent\"\n");
    assert_snapshot!(shop.run(&["tune"]));
    shop.configure("[worker]\nengine = \"openai\"\nmodel = \"m\"\ncommand = [\"x\", \"{port}\"]\n");
    let screen = shop.run(&["tune"]);
    assert!(screen.contains("sets its own limits") && screen.ends_with("--- exit 2\n"), "{screen}");
}

#[test]
fn with_two_days_of_history_nothing_is_guessed() {
    use mlxsup::history::store::Store;
    use mlxsup::memory::{Metric, Sample};
    use mlxsup::supervisor::Wall;

    let shop = Shop::stocked();
    let begun = chrono::Utc::now().timestamp_millis() as u64 - 26 * 3_600_000;
    let samples: Vec<_> = (0..26 * 360_u64)
        .map(|step| {
            let mut sample = Sample::default();
            // A busy minute in ten: three requests, 3.8 GiB of keys and values.
            let busy = step % 60 < 6;
            for (metric, value) in [
                (Metric::WorkerFootprint, 40e9),
                (Metric::WorkerCompressed, 0.0),
                (Metric::SystemUsed, 55e9),
                (Metric::MlxCache, 400e6),
                (Metric::KvBytes, if busy { 3.8 * f64::from(1 << 30) } else { 0.0 }),
                (Metric::RequestsActive, if busy { 3.0 } else { 0.0 }),
            ] {
                sample.set(metric, Some(value));
            }
            (Wall(begun + step * 10_000), sample)
        })
        .collect();
    let mut store = Store::open(&shop.home.path().join("history.db")).unwrap();
    store.write(&samples, &[]).unwrap();
    store.settle().unwrap();
    assert_snapshot!(tuned(&shop, "[worker]\nmodel = \"MODEL\"\nengine = \"mlx_lm\"\n", &["tune"]));
}
