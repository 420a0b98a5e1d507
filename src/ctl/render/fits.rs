//! Models and what they get, as a table.

use mlxsup_fit::advice::count;
use mlxsup_fit::derivation::spoken;

use super::table::grid;
use crate::ctl::shelf::{Fit, Shelved};
use crate::limits::Runner;

/// Name, sizes, engine and verdict of each model; its first line names the columns.
#[must_use]
pub fn table(models: &[Shelved]) -> String {
    let mut lines = vec![["model", "on disk", "in memory", "engine", "fits"].map(str::to_owned).to_vec()];
    lines.extend(models.iter().map(line));
    grid(&lines).into_iter().map(|line| line + "\n").collect()
}

fn line(shelved: &Shelved) -> Vec<String> {
    let name = shelved.name.clone();
    match &shelved.found {
        Err(error) => {
            let unknown = "–".to_owned();
            vec![name, unknown.clone(), unknown.clone(), unknown, format!("unreadable: {error}")]
        }
        Ok(fit) => {
            let engine = fit.runner.as_str().unwrap_or("none").to_owned();
            let [on_disk, in_memory] = [fit.model.on_disk_bytes, fit.budget.weights_bytes].map(spoken);
            vec![name, on_disk, in_memory, engine, verdict(fit)]
        }
    }
}

/// `4 × 32,768 tokens, 1 × 262,144`, or why not.
#[must_use]
pub fn verdict(fit: &Fit) -> String {
    let budget = &fit.budget;
    if let Some(bytes) = budget.too_big_by {
        return format!("too big by {}", spoken(bytes));
    }
    if fit.runner == Runner::None {
        return format!("no engine: {}", fit.model.obstacle.as_deref().unwrap_or("unknown layout"));
    }
    let each = budget.longest_with(budget.slots);
    let alone = budget.longest_with(1);
    if budget.slots > 1 && each < alone {
        format!("{} × {} tokens, or 1 × {}", budget.slots, count(each), count(alone))
    } else {
        format!("{} × {} tokens", budget.slots, count(each))
    }
}
