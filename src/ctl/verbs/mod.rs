//! One file per verb, of the verb's name.

mod chat;
mod clear_cache;
mod clients;
mod completions;
mod config;
mod doctor;
mod drain;
mod events;
mod history;
mod init;
mod install;
mod load;
mod logs;
mod models;
mod reload;
mod restart;
mod resume;
mod rules;
mod schedule;
mod start;
mod status;
mod stop;
mod top;
mod tune;
mod uninstall;
mod unload;
mod upgrade;

use crate::ctl::args::{Args, Verb};
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::home::{Home, Surroundings};
use crate::ctl::terminal::Terminal;
use crate::history::FILE;

/// Carries out the verb.
///
/// # Errors
/// Whatever kept the verb from being done, ready to be told.
pub async fn dispatch(args: Args, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let surroundings = Surroundings::of_process();
    let home = Home::of_daemon(args.home.as_deref(), &surroundings);
    let home_holding = |file: &str| Home::holding(args.home.as_deref(), &surroundings, file);
    let control = Control::new(home.clone());
    match args.verb {
        Verb::Init(init) => init::run(&init, &home_holding("mlxsup.toml"), &control, terminal).await,
        Verb::Status(facts) => status::run(facts, &home, &control, terminal).await,
        Verb::Top(top) => top::run(&top, &control, terminal).await,
        Verb::Chat(chat) => chat::run(chat, &home, terminal).await,
        Verb::Drain(drain) => drain::run(&drain, &control, terminal).await,
        Verb::Resume(waiting) => resume::run(waiting, &control, terminal).await,
        Verb::Restart(restart) => restart::run(&restart, &control, terminal).await,
        Verb::Unload(unload) => unload::run(&unload, &control, terminal).await,
        Verb::Load(waiting) => load::run(waiting, &control, terminal).await,
        Verb::ClearCache(waiting) => clear_cache::run(waiting, &control, terminal).await,
        Verb::Rules(rules) => rules::run(&rules, &control, &home_holding(FILE), terminal).await,
        Verb::Schedule(schedule) => schedule::run(schedule, &control, terminal).await,
        Verb::Clients(facts) => clients::run(facts, &control, terminal).await,
        Verb::History(history) => history::run(&history, &home_holding(FILE), terminal),
        Verb::Events(events) => events::run(&events, &control, &home_holding(FILE), terminal).await,
        Verb::Tune(tune) => tune::run(&tune, &home_holding("mlxsup.toml"), &control, terminal).await,
        Verb::Models(facts) => models::run(facts, &home_holding("mlxsup.toml"), &control, terminal).await,
        Verb::Logs(logs) => logs::run(&logs, &home_holding("logs"), terminal).await,
        Verb::Doctor(doctor) => doctor::run(&doctor, &home_holding("mlxsup.toml"), terminal).await,
        Verb::Config(config) => config::run(config, &home_holding("mlxsup.toml"), &control, terminal).await,
        Verb::Reload(waiting) => reload::run(waiting, &control, terminal).await,
        Verb::Upgrade(upgrade) => upgrade::run(&upgrade, &control, terminal).await,
        Verb::Start(start) => start::run(&start, &home, terminal).await,
        Verb::Stop(stop) => stop::run(&stop, &home, &control, terminal).await,
        Verb::Install(install) => install::run(&install, &home_holding("mlxsup.toml"), terminal).await,
        Verb::Uninstall(uninstall) => uninstall::run(&uninstall, &home, terminal).await,
        Verb::Completions(completions) => completions::run(&completions, terminal),
    }
}
