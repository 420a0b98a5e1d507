//! A new configuration without a new daemon.

use nix::sys::signal::Signal;

use crate::service::Service;

#[test]
fn hup_applies_a_good_file_and_reports_what_waits_for_the_next_worker() {
    let mut service = Service::serving("", "");
    let before = service.status()["config"]["hash"].clone();
    service.configure("\"slots\":7", "[drain]\ngrace = \"7s\"\n");
    service.signal(Signal::SIGHUP);
    let status = service.wait_until("the new file", |status| status["config"]["hash"] != before);
    assert_eq!(status["config"]["pending"], serde_json::json!(["worker.command"]), "{status}");
    assert_eq!(status["queue"]["slots"], 4, "the worker is not replaced for it");
    service.ctl(&["restart"]).ok();
    let status = service.wait_for("serving");
    assert_eq!(status["queue"]["slots"], 7);
    assert_eq!(status["config"]["pending"], serde_json::json!([]));
}

#[test]
fn a_bad_file_is_rejected_and_the_old_one_stays() {
    let mut service = Service::serving("", "");
    let good = service.read("mlxsup.toml");
    let before = service.status()["config"]["hash"].clone();
    service.write("mlxsup.toml", "[worker]\nmodell = \"x\"\n");
    service.signal(Signal::SIGHUP);
    let status = service.wait_until("problems", |status| status["config"]["problems"][0].is_string());
    assert!(status["config"]["problems"].to_string().contains("modell"), "{status}");
    assert_eq!(status["config"]["hash"], before);
    assert_eq!(status["state"], "serving");
    let said = service.ctl(&["reload"]);
    assert_eq!(said.code, Some(1), "{} {}", said.out, said.err);
    assert!(said.err.contains("modell"), "{}", said.err);
    assert_eq!(service.ctl(&["config", "check"]).code, Some(2));

    service.write("mlxsup.toml", &good);
    let said = service.ctl(&["reload"]).ok();
    assert!(said.out.contains("nothing has changed") || said.err.contains("nothing has changed"), "{}", said.err);
    assert_eq!(service.status()["config"]["problems"], serde_json::json!([]));
}

#[test]
fn a_reload_names_what_was_applied() {
    let service = Service::serving("", "");
    service.configure("", "[drain]\ngrace = \"7s\"\n");
    let said = service.ctl(&["reload"]).ok();
    let text = said.out + &said.err;
    assert!(text.contains("applied: drain.grace"), "{text}");
    service.ctl(&["config", "check"]).ok();
    assert!(service.ctl(&["config", "show"]).ok().out.contains("grace = \"7s\""));
}

#[test]
fn a_schedule_and_a_rule_can_come_with_a_reload() {
    let service = Service::serving("", "");
    let rest = "[[schedule]]\nname = \"nightly\"\ncron = \"0 4 * * *\"\naction = \"restart\"\n\
                [[rule]]\nname = \"heavy\"\nwhen = [ { metric = \"worker.footprint\", above = \"40GiB\" } ]\n\
                action = \"restart\"\n";
    service.configure("", rest);
    service.ctl(&["reload"]).ok();
    let status = service.status();
    assert_eq!(status["schedules"][0]["name"], "nightly");
    assert!(status["rules"].as_array().unwrap().iter().any(|rule| rule["name"] == "heavy"), "{status}");
}
