//! Kernel panics: did wired Metal memory bring this machine down?
//!
//! Reports and signatures are [`crate::daemon::panic_report`]'s; what they mean for the operator is said here.

use std::time::SystemTime;

use super::finding::{Area, Finding, Level};
use crate::ctl::render::quantity::whole_span;
use crate::daemon::panic_report::{self, PanicReport, Recent};

/// What the machine has kept of its panics.
pub type Panics = Recent;

/// Looks through the reports.
#[must_use]
pub fn gather() -> Panics {
    panic_report::recent()
}

/// Judges them.
#[must_use]
pub fn judge(panics: &Panics, now: SystemTime) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Panics, level, code, what);
    let reports = match panics {
        // Other systems leave none; saying so each time would help nobody.
        Recent::NotKept => return Vec::new(),
        Recent::Closed(folder) => {
            let shown = folder.display();
            return vec![
                finding(Level::Note, "panic_reports_closed", format!("cannot read the panic reports in {shown}"))
                    .because("a kernel panic caused by wired GPU memory would go unnoticed")
                    .mended_by("sudo mlxsupctl doctor"),
            ];
        }
        Recent::Reports(reports) => reports,
    };
    let known = reports.iter().find(|report| report.signature.is_some());
    let other = reports.iter().find(|report| report.signature.is_none());
    let mut findings = Vec::new();
    if let Some((report, signature)) = known.and_then(|report| Some((report, report.signature?))) {
        findings.push(
            finding(Level::Problem, "panic_known", format!("the kernel panicked {}: {signature}", ago(report, now)))
                .because(
                    "wired Metal memory is known to cause this panic; wired_limit = \"auto\" stays off for 30 days after \
                     it, so idle weights may be compressed meanwhile",
                )
                .mended_by(format!("less {}", report.path.display())),
        );
    }
    if let Some(report) = other {
        findings.push(
            finding(Level::Note, "panic_other", format!("the kernel panicked {}", ago(report, now)))
                .because("the report has no signature that is known to come from MLX; it may have another cause")
                .mended_by(format!("less {}", report.path.display())),
        );
    }
    if findings.is_empty() {
        findings.push(finding(Level::Ok, "panics", "no kernel panic in the last 30 days".to_owned()));
    }
    findings
}

fn ago(report: &PanicReport, now: SystemTime) -> String {
    match now.duration_since(report.at) {
        Ok(age) => format!("{} ago", whole_span(age.as_secs_f64())),
        Err(_) => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn report(hours: u64, signature: Option<&'static str>) -> PanicReport {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 24 * 3600 - hours * 3600);
        PanicReport { path: PathBuf::from(format!("/reports/panic-{hours}.panic")), at, signature }
    }

    fn judged(panics: &Panics) -> Vec<(Level, &'static str)> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 24 * 3600);
        judge(panics, now).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    #[test]
    fn a_known_panic_is_a_problem_and_any_other_a_note() {
        let known = report(5, Some("completeMemory() prepare count underflow"));
        let panics = Recent::Reports(vec![report(2, None), known.clone()]);
        assert_eq!(judged(&panics), [(Level::Problem, "panic_known"), (Level::Note, "panic_other")]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 24 * 3600);
        let finding = &judge(&Recent::Reports(vec![known]), now)[0];
        assert!(finding.what.contains("5 h ago: completeMemory()"), "{}", finding.what);
        assert_eq!(finding.mend.as_deref(), Some("less /reports/panic-5.panic"));
    }

    #[test]
    fn none_is_good_news_only_where_they_are_kept_and_readable() {
        assert_eq!(judged(&Recent::Reports(Vec::new())), [(Level::Ok, "panics")]);
        assert_eq!(judged(&Recent::NotKept), []);
        assert_eq!(judged(&Recent::Closed("/Library".into())), [(Level::Note, "panic_reports_closed")]);
    }
}
