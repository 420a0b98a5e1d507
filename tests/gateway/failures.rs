//! `docs/failures.md` describes every code, and only those.

use mlxsup::supervisor::refusal::CODES;

#[test]
fn every_code_has_its_heading_status_and_remedy() {
    let text = include_str!("../../docs/failures.md");
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    let headings: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    let codes: Vec<String> = CODES.iter().map(|(_, code, status)| format!("`{code}` · {status}")).collect();
    assert_eq!(headings, codes, "one heading per code, in the order of the table");
    for section in sections {
        for part in ["**Clients see:**", "**Log:**", "**Remedy:**"] {
            assert!(section.contains(part), "{part} is missing under {}", section.lines().next().unwrap_or_default());
        }
    }
}
