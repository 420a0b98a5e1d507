//! `mlxsupctl doctor`: looks at everything a service depends on, and says what mends what is wrong.
//!
//! ```text
//! gathering ─▶ facts of each area ─▶ judge (pure) ─▶ findings ─▶ text, JSON, report
//! ```
//! One file per area holds its facts, how they are read and what they mean. Nothing is ever changed, no daemon is needed,
//! and a bad configuration is a finding.

mod configuration;
mod daemon;
mod finding;
mod gathering;
mod home;
mod host;
mod limits;
mod machine;
mod model;
mod panics;
mod report;
mod service;
mod sockets;
mod text;
mod versions;

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::ctl::args::DoctorArgs;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::json::pretty;
use crate::ctl::terminal::Terminal;
use finding::{Finding, Findings, Level};

/// Looks, and prints what was found. A problem is no failure of this verb: only the exit status tells.
pub async fn run(args: &DoctorArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let gathered = gathering::gather(home, terminal).await;
    let findings = gathered.judge(SystemTime::now());
    if args.report {
        let text = report::bundle(&gathered, &findings, terminal).await;
        terminal.print(text)?;
    } else if args.json {
        terminal.print(json(&findings, &home.path)?)?;
    } else {
        let (paint, columns) = (terminal.out_paint, terminal.columns);
        terminal.print(text::table(&findings, paint, columns))?;
    }
    Ok(findings.exit())
}

/// `doctor --json`.
#[derive(Serialize)]
struct Document<'f> {
    /// Version of this document.
    schema: u32,
    /// Of this program.
    version: &'static str,
    /// Which home was looked at.
    home: &'f Path,
    problems: u64,
    warnings: u64,
    notes: u64,
    /// The first command to type.
    next: Option<&'f str>,
    findings: &'f [Finding],
}

fn json(findings: &Findings, home: &Path) -> Result<Vec<u8>, Failure> {
    let document = Document {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        home,
        problems: findings.count(Level::Problem),
        warnings: findings.count(Level::Warning),
        notes: findings.count(Level::Note),
        next: findings.next(),
        findings: findings.all(),
    };
    let text = serde_json::to_vec(&document)
        .map_err(|error| Failure::new(Kind::Internal, "cannot write the findings as JSON").caused_by(error))?;
    Ok(pretty(&text))
}
