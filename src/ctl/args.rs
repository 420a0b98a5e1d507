//! What may be typed after `mlxsupctl`: verbs, options, help texts.
//!
//! Owns the words and their parsing; what a verb does lives in the file of its name under [`super::verbs`].

mod live;
mod past;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use live::TopArgs;
pub use past::{EventsArgs, HistoryArgs, RulesArgs};

const EXIT_CODES: &str = "\
Exit status: 0 ok, 1 internal error, 2 usage or configuration, 3 not serving,
4 daemon unreachable, 5 denied in this state, 6 deadline passed";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "mlxsupctl", version, about = "Steer mlxsupd, the supervisor of an MLX model worker")]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true, max_term_width = 100)]
pub struct Args {
    /// Talk to the daemon of this home [env: MLXSUP_HOME] [default: ~/.mlxsup, else the system service's]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub home: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs, in the order of a day's work.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a first configuration for this machine and a model
    Init(InitArgs),
    /// Show what the service is doing and why
    Status(Facts),
    /// Watch the service live, over the whole terminal; steers nothing
    Top(TopArgs),
    /// Ask the model a question, or hold a conversation
    Chat(ChatArgs),
    /// Let requests in flight finish and assign no more
    Drain(DrainArgs),
    /// Take requests again after a drain
    Resume(Waiting),
    /// Replace the worker; requests wait meanwhile
    Restart(RestartArgs),
    /// Stop the worker and give its memory back
    Unload(UnloadArgs),
    /// Start the worker again after an unload
    Load(Waiting),
    /// Drop the buffers MLX keeps for reuse
    ClearCache(Waiting),
    /// Show the memory rules and what they see
    Rules(RulesArgs),
    /// Show when schedules fire next, or run one now
    Schedule(ScheduleArgs),
    /// Show who has requests waiting and running, and who was given how much
    Clients(Facts),
    /// Draw what memory, worker and requests looked like over time
    History(HistoryArgs),
    /// Show what was decided and why
    Events(EventsArgs),
    /// Derive limits, slots and thresholds for this machine and model, and show the sums
    Tune(TuneArgs),
    /// Show the downloaded models and how much of each fits this machine
    Models(Facts),
    /// Show the last lines of a log
    Logs(LogsArgs),
    /// Look for everything that is wrong, and say what mends it
    Doctor(DoctorArgs),
    /// Judge or print the configuration
    Config(ConfigArgs),
    /// Read the configuration file again
    Reload(Waiting),
    /// Replace the daemon itself; nobody is refused, no stream is cut
    Upgrade(UpgradeArgs),
    /// Start the installed service
    Start(StartArgs),
    /// Stop the daemon and its worker
    Stop(StopArgs),
    /// Make launchd or systemd run the daemon, now and from now on
    Install(InstallArgs),
    /// Stop the service and remove its files
    Uninstall(UninstallArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Options of verbs that only print facts.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Facts {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of verbs that start something.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Waiting {
    /// Return at once instead of waiting for the outcome
    #[arg(long)]
    pub no_wait: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// `drain`.
#[derive(Debug, ClapArgs)]
pub struct DrainArgs {
    /// Force what is left after this long, such as 90s or 5m [default: drain.grace]
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    pub deadline: Option<Duration>,
    /// Answer new requests 503 instead of letting them wait
    #[arg(long)]
    pub refuse: bool,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `restart`.
#[derive(Debug, ClapArgs)]
pub struct RestartArgs {
    /// Choose how the worker is replaced
    #[arg(long, value_enum, default_value_t = RestartMode::Auto)]
    pub mode: RestartMode,
    /// Print the arithmetic and do nothing
    #[arg(long)]
    pub plan: bool,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `restart --mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RestartMode {
    /// Let the planner decide
    Auto,
    /// Load the next worker beside this one
    Overlap,
    /// Retire this worker first, requests wait
    Sequential,
    /// Do not wait for streams
    Now,
}

impl RestartMode {
    /// The word the control socket knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlap => "overlap",
            Self::Sequential => "sequential",
            Self::Now => "now",
        }
    }
}

/// `unload`.
#[derive(Debug, ClapArgs)]
pub struct UnloadArgs {
    /// End streams instead of waiting for them
    #[arg(long)]
    pub now: bool,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `upgrade`.
#[derive(Debug, ClapArgs)]
pub struct UpgradeArgs {
    /// Run this mlxsupd, also to go back to an older one [default: the one now installed where the daemon came from]
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `start`.
#[derive(Debug, ClapArgs)]
pub struct StartArgs {
    /// How long the daemon may take to answer.
    #[command(flatten)]
    pub patience: StartPatience,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Options of verbs that start a daemon.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct StartPatience {
    /// Give up when no daemon answers after this long, such as 90s or 5m [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    pub deadline: Option<Duration>,
}

/// `stop`.
#[derive(Debug, ClapArgs)]
pub struct StopArgs {
    /// Leave the worker running for the next daemon
    #[arg(long)]
    pub keep_worker: bool,
    /// How to wait and print.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `schedule`.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ScheduleArgs {
    /// Show this many firings of each schedule
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub next: u32,
    /// How to print.
    #[command(flatten)]
    pub facts: Facts,
    /// `run`.
    #[command(subcommand)]
    pub action: Option<ScheduleAction>,
}

/// What `schedule` can do besides showing.
#[derive(Debug, Subcommand)]
pub enum ScheduleAction {
    /// Run a schedule's action now, as if its hour had come
    Run {
        /// Name of the schedule
        name: String,
        /// How to wait and print.
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// `logs`.
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// Choose the log
    #[arg(value_enum, default_value_t = Log::Daemon)]
    pub log: Log,
    /// Keep printing lines as they are written
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with this many past lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub lines: u32,
}

/// The logs of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Decisions of the daemon
    Daemon,
    /// What the worker wrote
    Worker,
    /// One line per request
    Requests,
}

/// `chat`.
#[derive(Debug, ClapArgs)]
pub struct ChatArgs {
    /// The question; without it, standard input is read: a conversation in a terminal, one question from a pipe
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Set the instructions the model answers under
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Answer with at most this many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// Set the sampling temperature, 0 for the likeliest answer
    #[arg(long, value_name = "NUMBER")]
    pub temperature: Option<f64>,
    /// Ask for a model by name
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Use this client socket [default: listen.socket of the home]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `init`.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// Use this model: a folder, a GGUF file or a downloaded hub id [default: the largest downloaded one that fits]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub facts: Facts,
}

/// `tune`.
#[derive(Debug, ClapArgs)]
pub struct TuneArgs {
    /// Write the values into mlxsup.toml, keeping its comments
    #[arg(long)]
    pub apply: bool,
    /// How to print.
    #[command(flatten)]
    pub facts: Facts,
}

/// `doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Print a report to paste into an issue, in Markdown, keys and names taken out
    #[arg(long)]
    pub report: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "report")]
    pub json: bool,
}

/// `config`.
#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Report every problem of a configuration file
    Check(ConfigFile),
    /// Print the configuration with every default filled in
    Show(ConfigFile),
}

/// Which file `config` reads.
#[derive(Debug, ClapArgs)]
pub struct ConfigFile {
    /// The file [default: mlxsup.toml of the home]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub facts: Facts,
}

/// `install`.
#[derive(Debug, ClapArgs)]
pub struct InstallArgs {
    /// Only write the service files, into this folder, and load nothing
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// For this service manager [default: the platform's]
    #[arg(long = "for", value_name = "MANAGER", value_enum)]
    pub chosen: Option<ServiceManager>,
    /// For the machine, from boot on, instead of your own, from login on
    #[arg(long)]
    pub system: bool,
    /// Run the system service as this account [default: whoever called sudo]
    #[arg(long, value_name = "NAME", requires = "system")]
    pub user: Option<String>,
    /// How long the daemon may take to answer.
    #[command(flatten)]
    pub patience: StartPatience,
}

/// `uninstall`.
#[derive(Debug, ClapArgs)]
pub struct UninstallArgs {
    /// The machine's service instead of your own
    #[arg(long)]
    pub system: bool,
    /// Remove configuration, state and logs as well; never the model
    #[arg(long)]
    pub purge: bool,
}

impl InstallArgs {
    /// The chosen service manager, else the platform's.
    #[must_use]
    pub fn manager(&self) -> ServiceManager {
        let native = if cfg!(target_os = "macos") { ServiceManager::Launchd } else { ServiceManager::Systemd };
        self.chosen.unwrap_or(native)
    }
}

/// Who starts services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceManager {
    /// macOS.
    Launchd,
    /// Linux.
    Systemd,
}

/// `completions`.
#[derive(Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
