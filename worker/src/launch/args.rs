//! The command line of a worker that runs alone.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use mlxsup_worker_api::Settings;
use mlxsup_worker_api::settings::Device;

use super::{Address, LaunchError, Mode, Service};
use crate::serve::Identity;

/// Where a worker listens that was told nothing.
const DEFAULT_LISTEN: &str = "127.0.0.1:11536";

/// Loads one MLX model and answers for it. Usually mlxsupd starts this program; with `--model` it runs alone.
#[derive(Debug, Parser)]
#[command(name = "mlxsup-worker", version)]
pub struct Args {
    /// A folder in MLX/Hugging Face layout, a GGUF file, or a hub id that is already downloaded.
    #[arg(long)]
    pub(super) model: Option<String>,
    /// Serve on this Unix socket.
    #[arg(long, value_name = "PATH", conflicts_with = "listen")]
    socket: Option<PathBuf>,
    /// Serve on this loopback address.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,
    /// Print what the device and its memory are, as JSON, and end.
    #[arg(long, conflicts_with_all = ["model", "socket", "prompt"])]
    machine: bool,
    /// Answer this prompt on stdout and end.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["socket", "listen"])]
    prompt: Option<String>,
    /// Give the prompt to the model as it is, without its chat template.
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// Tokens of the answer at most.
    #[arg(long, requires = "prompt")]
    max_tokens: Option<u32>,
    /// 0 always takes the most probable token.
    #[arg(long, requires = "prompt")]
    temperature: Option<f32>,
    /// Keep the most probable tokens up to this mass.
    #[arg(long, requires = "prompt")]
    top_p: Option<f32>,
    /// Keep this many of the most probable tokens.
    #[arg(long, requires = "prompt")]
    top_k: Option<u32>,
    /// Keep tokens at least this probable relative to the best.
    #[arg(long, requires = "prompt")]
    min_p: Option<f32>,
    /// Seed of the random numbers.
    #[arg(long, requires = "prompt")]
    seed: Option<u64>,
    /// Where the model runs: auto, gpu or cpu.
    #[arg(long, default_value = "auto", value_parser = device)]
    device: Device,
    /// Tokens (prompt and answer) one request may use.
    #[arg(long)]
    context: Option<u32>,
    /// Sequences decoded together.
    #[arg(long)]
    slots: Option<u32>,
}

/// One prompt and how to answer it.
#[derive(Debug)]
pub struct Prompting {
    pub(super) text: String,
    pub(super) raw: bool,
    /// Request fields, spelled as the API spells them.
    pub(super) fields: serde_json::Map<String, serde_json::Value>,
}

impl Args {
    pub(super) fn into_mode(self) -> Result<Mode, LaunchError> {
        let usage = |message: &str| LaunchError::Usage(message.to_owned());
        if self.machine {
            return Ok(Mode::Machine(self.device));
        }
        let fields = self.fields();
        let model = self.model.ok_or_else(|| usage("`--model` is missing; mlxsupd starts workers by itself"))?;
        let settings = Settings {
            model,
            device: self.device,
            context: self.context,
            slots: self.slots,
            // One who runs it by hand may leave it for a day.
            lease_s: 0,
            ..Settings::default()
        };
        if let Some(text) = self.prompt {
            return Ok(Mode::Prompt(Box::new(settings), Prompting { text, raw: self.raw, fields }));
        }
        let address = match self.socket {
            Some(path) => Address::Unix(path),
            None if is_loopback(&self.listen) => Address::Tcp(self.listen),
            None => {
                return Err(usage(
                    "`--listen` takes loopback addresses only: a worker has no keys; mlxsupd serves others",
                ));
            }
        };
        Ok(Mode::Serve(Service { settings, identity: Identity::default(), address, ready_fd: None, lease: None }))
    }

    fn fields(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut fields = serde_json::Map::new();
        let mut set = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value);
            }
        };
        set("max_tokens", self.max_tokens.map(Into::into));
        set("temperature", self.temperature.map(Into::into));
        set("top_p", self.top_p.map(Into::into));
        set("top_k", self.top_k.map(Into::into));
        set("min_p", self.min_p.map(Into::into));
        set("seed", self.seed.map(Into::into));
        fields
    }
}

fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn device(text: &str) -> Result<Device, String> {
    match text {
        "auto" => Ok(Device::Auto),
        "gpu" => Ok(Device::Gpu),
        "cpu" => Ok(Device::Cpu),
        other => Err(format!("`{other}` is not auto, gpu or cpu")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(line: &str) -> Result<Mode, LaunchError> {
        Args::try_parse_from(line.split(' ')).expect("arguments").into_mode()
    }

    #[test]
    fn three_ways_to_run() {
        let Ok(Mode::Serve(service)) = mode("w --model m --socket /tmp/x --slots 2") else { panic!("not a service") };
        assert_eq!((service.address, service.settings.slots), (Address::Unix("/tmp/x".into()), Some(2)));
        let Ok(Mode::Serve(service)) = mode("w --model m") else { panic!("not a service") };
        assert_eq!((service.address, service.lease), (Address::Tcp(DEFAULT_LISTEN.to_owned()), None));
        let Ok(Mode::Prompt(_, prompting)) = mode("w --model m --prompt hi --temperature 0 --seed 3") else {
            panic!("not a prompt")
        };
        assert_eq!(serde_json::Value::from(prompting.fields), serde_json::json!({"temperature": 0.0, "seed": 3}));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(mode("w").is_err());
        assert!(mode("w --model m --listen 0.0.0.0:80").is_err());
        assert!(mode("w --model m --listen [::1]:80").is_ok());
        for line in ["w --prompt x --socket y", "w --model m --raw", "w --model m --device tpu"] {
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
