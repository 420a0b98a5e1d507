//! `mlxsupctl top`: whether it can be shown here; what it shows is in `crate::ctl::top`.

#[cfg(feature = "top")]
use std::io::IsTerminal;

use crate::ctl::args::TopArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::terminal::Terminal;
#[cfg(feature = "top")]
use crate::ctl::top;

/// What to use where a screen cannot be drawn.
#[cfg(feature = "top")]
const INSTEAD: &str = "use `mlxsupctl status --json` for the facts of now, or `mlxsupctl events -f` for what happens";

/// Shows the screen until the person has seen enough.
#[cfg(feature = "top")]
pub async fn run(args: &TopArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    // Keys come from stdin; a view that cannot be left is no view.
    let plain = if !terminal.out_is_terminal {
        Some("stdout is none")
    } else if !std::io::stdin().is_terminal() {
        Some("stdin is none")
    } else if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        Some("TERM=dumb is one without a screen")
    } else {
        None
    };
    match plain {
        Some(why) => Err(Failure::new(Kind::Usage, format!("`top` needs a terminal, and {why}")).hint(INSTEAD)),
        None => top::run(control, args.interval, terminal.out_paint.colour).await,
    }
}

/// Says what this build lacks.
#[cfg(not(feature = "top"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
pub async fn run(args: &TopArgs, _: &Control, _: &mut Terminal) -> Result<ExitStatus, Failure> {
    let TopArgs { interval: _ } = args;
    Err(Failure::new(Kind::Usage, "this mlxsupctl was built without `top` (cargo feature `top`)")
        .hint("`mlxsupctl status` shows the same for now, and `mlxsupctl events -f` what happens"))
}
