//! `mlxsupctl init [--model M]`: a first configuration for this machine, with the numbers it leads to as comments, and a key
//! for TCP clients. Overwrites nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use mlxsup_fit::{Machine, resolve};
use mlxsup_worker_api::settings::Device;

use crate::config::{self, edit::AUTO_IS};
use crate::ctl::args::InitArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::{Home, Source};
use crate::ctl::render::fits;
use crate::ctl::render::json::pretty;
use crate::ctl::reported;
use crate::ctl::shelf::{Fit, Shelved, shelf};
use crate::ctl::terminal::Terminal;
use crate::limits::{Resolved, Runner, words};
use crate::memory::machine;

/// Looks at the machine and its models, chooses one unless it is named, and writes both files.
pub async fn run(
    args: &InitArgs,
    home: &Home,
    control: &Control,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let root = std::path::absolute(home.of_person()).unwrap_or_else(|_| home.of_person().to_owned());
    let file = root.join("mlxsup.toml");
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(Kind::Denied, format!("{} is already there; nothing was changed", file.display()))
            .hint("`mlxsupctl tune` proposes numbers for it, `mlxsupctl config show` prints what is in force"));
    }
    let machine = machine::machine(Device::Auto, reported::ask(control).await)
        .map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    terminal.say(&describe(&machine))?;
    let chosen = choose(args, &machine, terminal)?;
    let fit = chosen.found.as_ref().map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    let text = configuration(&chosen.name, fit, &machine);
    // A fault of ours, should it ever happen: better told than written.
    config::parse(&text, &file).map_err(|problems| {
        Failure::new(Kind::Internal, "the configuration would not be valid").with_details(problems.to_string())
    })?;
    let key = root.join("api.key");
    let key_was_there = key.symlink_metadata().is_ok();
    write_new(&root, &file, &text)?;
    if !key_was_there {
        write_new(&root, &key, &key_line()?)?;
    }
    if args.facts.json {
        let document = serde_json::json!({
            "schema": 1, "config": file, "api_key_file": key, "api_key_written": !key_was_there, "machine": machine,
            "model": chosen.json(),
        });
        terminal.print(pretty(document.to_string().as_bytes()))?;
        return Ok(ExitStatus::Ok);
    }
    terminal.print(&text)?;
    let kept = if key_was_there { "kept" } else { "written; the key in it is for TCP clients" };
    terminal.say(&format!("{} is written\n{} is {kept}", file.display(), key.display()))?;
    if let Some(bytes) = fit.budget.too_big_by {
        let too_big = mlxsup_fit::derivation::spoken(bytes);
        terminal.say(&format!("{} the model is too big by {too_big}", terminal.err_paint.warn("warning:")))?;
    }
    // A home that was named on the command line must be named again, or the next command means another one.
    let named = if home.source == Source::Flag { format!(" --home {}", root.display()) } else { String::new() };
    terminal.say(&format!(
        "`mlxsupctl{named} install` runs it from every login on; `mlxsupd{named}` runs it in this terminal"
    ))?;
    Ok(ExitStatus::Ok)
}

/// The named model, else the largest that fits and that an engine runs, mlxsup's own before others.
fn choose(args: &InitArgs, machine: &Machine, terminal: &mut Terminal) -> Result<Shelved, Failure> {
    let hub_cache = resolve::hub_cache();
    if let Some(model) = &args.model {
        return Ok(Shelved::read(&absolute(model), machine, &hub_cache));
    }
    let models = shelf(machine, &hub_cache, None);
    if models.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("there are no models in {}", hub_cache.display()))
            .hint("fetch one: `hf download mlx-community/Qwen3-4B-Instruct-2507-4bit`")
            .hint("or name a folder or a GGUF file: `mlxsupctl init --model PATH`"));
    }
    terminal.say(fits::table(&models).trim_end())?;
    let rank = |shelved: &Shelved| {
        let fit = shelved.found.as_ref().ok().filter(|_| shelved.is_usable())?;
        Some((fit.runner == Runner::Native, fit.budget.weights_bytes))
    };
    let best = models.into_iter().filter(|shelved| rank(shelved).is_some()).max_by_key(rank);
    let best = best.ok_or_else(|| {
        Failure::new(Kind::Usage, "none of these models fits this machine")
            .hint("take one anyway: `mlxsupctl init --model NAME`")
    })?;
    terminal.say(&format!("chosen: {}; another one: `mlxsupctl init --model NAME`", best.name))?;
    Ok(best)
}

/// A path as the daemon must find it, which starts elsewhere; a hub id stays what it is.
fn absolute(model: &str) -> String {
    let path = Path::new(model);
    match path.exists() {
        // Links stay: somebody may mean to point them at another model.
        true => std::path::absolute(path).map_or_else(|_| model.to_owned(), |path| path.display().to_string()),
        false => model.to_owned(),
    }
}

fn describe(machine: &Machine) -> String {
    let cores = machine::cores().map_or_else(String::new, |cores| match (cores.performance, cores.efficiency) {
        (Some(fast), Some(slow)) => format!("{fast} fast and {slow} slow cores, "),
        _ if cores.all == 1 => "1 core, ".to_owned(),
        _ => format!("{} cores, ", cores.all),
    });
    format!("This machine has {cores}{}", words::machine(machine))
}

/// At most twenty lines: what must be said, what `auto` comes to, and where the rest is.
fn configuration(name: &str, fit: &Fit, machine: &Machine) -> String {
    let resolved =
        Resolved { model: fit.model.clone(), machine: *machine, budget: fit.budget.clone(), wiring_forbidden: false };
    let sentences = words::sentences(&resolved);
    let sum = |key: &str| {
        let text = sentences.iter().find(|sentence| sentence.key == key).map_or("", |sentence| sentence.text.as_str());
        let word = key.rsplit('.').next().unwrap_or_default();
        text.strip_prefix(word).map_or(text, str::trim_start).to_owned()
    };
    let engine = match (fit.runner, &fit.model.obstacle) {
        (Runner::MlxLm, Some(why)) => format!("engine = \"mlx_lm\"       # {why}\n"),
        _ => String::new(),
    };
    format!(
        "# Written by `mlxsupctl init` for {machine}.\n\
         # Every other key, and why it is there: etc/mlxsup.toml; `mlxsupctl config show` prints them all.\n\
         [worker]\n\
         model = {model}\n\
         {engine}\
         slots = \"auto\"          {AUTO_IS}{slots}\n\
         context = \"auto\"        {AUTO_IS}{context}\n\
         \n\
         [worker.memory]         # `mlxsupctl tune` proposes numbers once there is a history\n\
         wired_limit = \"auto\"    {AUTO_IS}{wired}\n\
         memory_limit = \"auto\"   {AUTO_IS}{memory}\n\
         \n\
         # [listen]              # for clients that know no Unix sockets\n\
         # tcp = \"127.0.0.1:11535\"\n\
         # api_key_file = \"api.key\"\n",
        machine = words::machine(machine),
        model = toml::Value::String(name.to_owned()),
        slots = sum("worker.slots"),
        context = sum("worker.context"),
        wired = sum("worker.memory.wired_limit"),
        memory = sum("worker.memory.memory_limit"),
    )
}

/// One line of the key file: 192 random bits, 48 hexadecimal digits.
fn key_line() -> Result<String, Failure> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Kind::Internal, "cannot get random numbers from the kernel")
            .caused_by(std::io::Error::other(error))
    })?;
    let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("# NAME KEY [max_class=normal] [max_active=4]\nme {key}\n"))
}

/// Makes the home where it is missing, and the file, which must not be there.
fn write_new(root: &Path, file: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()
    };
    write().map_err(|error| Failure::new(Kind::Internal, format!("cannot write {}", file.display())).caused_by(error))
}
