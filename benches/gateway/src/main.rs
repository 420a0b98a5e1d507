//! How much mlxsupd costs between client and engine, beside what nginx, HAProxy and bare hyper cost.
//!
//! Owns the choice of role: the same program is load generator, mock engine and bare proxy, so that nothing but the
//! processes compared differs between two columns of the table. docs/benchmarks.md says what each figure means.

mod bare_proxy;
mod chunked;
mod clients;
mod contenders;
mod figures;
mod load;
mod mock;
mod mock_answer;
mod processes;
mod queued;
mod rounds;
mod settings;
mod table;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("mock") => mock::run(&arguments[1..]),
        Some("proxy") => bare_proxy::run(&arguments[1..]),
        None => rounds::run(),
        Some(other) => Err(std::io::Error::other(format!("unknown role `{other}`; say mock, proxy or nothing"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "mlxsup-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// One line to standard output, at once: a run takes minutes and people watch it.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
