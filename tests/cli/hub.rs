//! A machine and a hub cache of the test's own: weight files are sparse and as large as the real ones, headers included.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::screen::Home;

const GIB: f64 = (1u64 << 30) as f64;

/// A home, a hub cache beside it, and a machine that is what the test says.
pub struct Shop {
    pub home: Home,
}

impl Shop {
    /// A Mac; `working_set` as an administrator would set it, 0 for unknown.
    pub fn mac(memory_gib: f64, working_set_gib: f64) -> Self {
        let shop = Self { home: Home::new() };
        let mut machine = json!({"total": memory_gib * GIB, "gpu": 1});
        if working_set_gib > 0.0 {
            machine["working_set"] = json!(working_set_gib * GIB);
        }
        fs::write(shop.machine_file(), machine.to_string()).unwrap();
        fs::create_dir(shop.home.path().join("hub")).unwrap();
        shop
    }

    /// A computer without a GPU.
    pub fn linux(memory_gib: f64) -> Self {
        let shop = Self::mac(memory_gib, 0.0);
        fs::write(shop.machine_file(), json!({"total": memory_gib * GIB, "gpu": 0}).to_string()).unwrap();
        shop
    }

    /// The operator's Mac with both worked models, a small one and one too large.
    pub fn stocked() -> Self {
        let shop = Self::mac(64.0, 51.84);
        shop.put("mlx-community/Qwen3.5-35B-A3B-8bit", &qwen35(), 34_660_610_688);
        shop.put("mlx-community/Qwen3-30B-A3B-8bit", &qwen3(), 30_532_122_624);
        shop.put("mlx-community/Llama-3.2-3B-8bit", &llama(), 3_212_749_824);
        shop.put(
            "big/Llama-70B-8bit",
            &json!({"num_hidden_layers": 80, "num_attention_heads": 64, "base": llama()}),
            70_553_706_496,
        );
        shop
    }

    /// Puts a model of so many 8-bit parameters into the hub cache.
    pub fn put(&self, id: &str, config: &Value, parameters: u64) {
        let mut whole = config.get("base").cloned().unwrap_or_else(|| config.clone());
        for (key, value) in config.as_object().unwrap().iter().filter(|(key, _)| *key != "base") {
            whole[key.as_str()] = value.clone();
        }
        let repository = self.home.path().join("hub").join(format!("models--{}", id.replace('/', "--")));
        let snapshot = repository.join("snapshots/c0ffee");
        fs::create_dir_all(repository.join("refs")).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(repository.join("refs/main"), "c0ffee").unwrap();
        fs::write(snapshot.join("config.json"), whole.to_string()).unwrap();
        weights(&snapshot, parameters);
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.home.path().join("mlxsup.toml")
    }

    fn machine_file(&self) -> PathBuf {
        self.home.path().join("machine.json")
    }

    /// What the person sees. How many cores the tests run on is left out.
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.home.command(arguments);
        command.env("MLXSUP_FAKE_MEMORY", self.machine_file()).env("HF_HUB_CACHE", self.home.path().join("hub"));
        let screen = self.home.screen(arguments, &command.output().unwrap());
        let without_cores = |line: &str| match line
            .split_once(" has ")
            .and_then(|(before, rest)| Some((before, rest.split_once("cores, ")?.1)))
        {
            Some((before, rest)) => format!("{before} has [cores], {rest}"),
            None => line.to_owned(),
        };
        screen.split_inclusive('\n').map(without_cores).collect()
    }

    /// The same as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let screen = self.run(arguments);
        let (_, rest) = screen.split_once('\n').unwrap();
        let end = rest.rfind("\n}\n").unwrap_or_else(|| panic!("no JSON: {screen}"));
        serde_json::from_str(&rest[..end + 2]).unwrap()
    }
}

/// A weight file that claims so many packed parameters and has none of them.
fn weights(folder: &Path, parameters: u64) {
    let parts = [
        ("model.w.weight", "U32", parameters),
        ("model.w.scales", "BF16", parameters / 32),
        ("model.w.biases", "BF16", parameters / 32),
    ];
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, bytes) in parts {
        header.insert(name.to_owned(), json!({"dtype": dtype, "shape": [1], "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    let text = Value::Object(header).to_string();
    let mut file = fs::File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(text.len() as u64).to_le_bytes()).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_len(8 + text.len() as u64 + end).unwrap();
}

fn eight_bit() -> Value {
    json!({"group_size": 64, "bits": 8})
}

pub fn qwen35() -> Value {
    json!({
        "model_type": "qwen3_5_moe", "quantization": eight_bit(),
        "text_config": {
            "num_hidden_layers": 40, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256,
            "full_attention_interval": 4, "linear_num_value_heads": 32, "linear_num_key_heads": 16,
            "linear_value_head_dim": 128, "linear_key_head_dim": 128, "linear_conv_kernel_dim": 4,
            "max_position_embeddings": 262_144
        }
    })
}

fn qwen3() -> Value {
    json!({
        "model_type": "qwen3_moe", "quantization": eight_bit(), "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 262_144
    })
}

pub fn llama() -> Value {
    json!({
        "model_type": "llama", "quantization": eight_bit(), "num_hidden_layers": 28, "num_attention_heads": 24,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131_072
    })
}
