//! The words of verbs that look back: history, events, rules against what was recorded.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::Facts;
use crate::memory::Metric;
use crate::supervisor::Wall;

/// `rules`.
#[derive(Debug, ClapArgs)]
pub struct RulesArgs {
    /// Say of each rule what it watches, when it acts, what it does, and what that means
    #[arg(long, conflicts_with = "replay")]
    pub explain: bool,
    /// Tell when the rules of mlxsup.toml would have acted since then, such as 7d, by the recorded history
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub replay: Option<Wall>,
    /// How to print.
    #[command(flatten)]
    pub facts: Facts,
}

/// `events`.
#[derive(Debug, ClapArgs)]
pub struct EventsArgs {
    /// Keep printing events as they happen
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with this many past events [default: 50, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Begin with the events of this long ago, such as 90m or 7d, or of an instant
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub since: Option<Wall>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// `history`.
#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    /// Show these metrics, such as worker.footprint,mlx.cache [default: an overview]
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',', value_parser = crate::history::view::metric)]
    pub metric: Vec<Metric>,
    /// Begin this long ago, such as 90m or 7d, or at an instant [default: 24h, or where the history begins]
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub since: Option<Wall>,
    /// End at an instant, or this long ago [default: now]
    #[arg(long, value_name = "WHEN", value_parser = instant)]
    pub until: Option<Wall>,
    /// Write a picture instead of drawing in the terminal
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Write a picture that can be enlarged
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write the numbers as finely as they are kept; - for standard output
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["png", "svg", "csv"])]
    pub json: bool,
}

fn instant(text: &str) -> Result<Wall, String> {
    crate::history::moment(text, crate::daemon::clock::wall())
}
