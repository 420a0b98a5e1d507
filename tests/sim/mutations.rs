//! The mutations must go on applying to the core, or they prove nothing (`make sim-mutations` runs them).

use std::path::Path;

/// Each hunk's old text must stand in its file exactly once.
#[test]
fn every_mutation_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stale = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(root.join("tests/sim/mutations")).expect("the folder of mutations") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        count += 1;
        let patch = std::fs::read_to_string(&path).expect("a patch is text");
        let file = patch.lines().find_map(|line| line.strip_prefix("+++ b/")).expect("a patch names its file");
        let source = std::fs::read_to_string(root.join(file)).expect("the file to be broken");
        for hunk in patch.split("\n@@ ").skip(1) {
            let old: Vec<&str> = hunk.lines().skip(1).filter_map(before).collect();
            if source.matches(&old.join("\n")).count() != 1 {
                stale.push(format!("{}: does not apply to {file} any more", path.display()));
            }
        }
        let first = patch.lines().next().unwrap_or_default();
        if !first.ends_with('?') {
            stale.push(format!("{}: its first line asks what it breaks", path.display()));
        }
    }
    assert!(count >= 5, "only {count} mutations");
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

/// The line as it stands in the file now; `None` for one that the patch adds.
fn before(line: &str) -> Option<&str> {
    line.strip_prefix('-').or_else(|| line.strip_prefix(' '))
}
