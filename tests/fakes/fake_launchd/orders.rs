//! The words of the control socket: one line in, one line out, `ok`, JSON or `error NUMBER: WHY`.

use std::path::Path;
use std::time::Instant;

use crate::domain::{Domain, Refusal};

/// Does what the line says.
pub fn obey(line: &str, domain: &mut Domain, now: Instant) -> String {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let ok = |result: Result<(), Refusal>| result.map(|()| "ok".to_owned());
    let result = match words.as_slice() {
        ["bootstrap", path] => ok(domain.bootstrap(Path::new(path), now)),
        ["bootout", label] => ok(domain.bootout(label, now)),
        ["kickstart", label] => ok(domain.kickstart(label, false, now)),
        ["kickstart", "-k", label] => ok(domain.kickstart(label, true, now)),
        ["print", label] => domain.print(label).map(|facts| facts.to_string()),
        ["shutdown"] => {
            domain.shut_down(now);
            Ok("ok".to_owned())
        }
        _ => Err(Refusal { number: 64, why: format!("no such order: {line}") }),
    };
    result.unwrap_or_else(|refusal| format!("error {refusal}")) + "\n"
}
