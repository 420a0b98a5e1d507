//! What a daemon writes down with `--record` can be played again, to the same decisions.

use mlxsup::daemon::recording::{Beginning, Step, spoken};
use mlxsup::supervisor::Supervisor;
use nix::sys::signal::Signal;

use crate::service::Service;

#[test]
fn a_recorded_daemon_decides_the_same_when_played_again() {
    let mut service = Service::new("\"crash_at_token\":2,\"only_generation\":1", "");
    let file = service.path("day.jsonl");
    let mut command = service.daemon_command();
    service.start_as(command.arg("--record").arg(&file));
    service.wait_for("serving");
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    service.ctl(&["restart"]).ok();
    service.ctl(&["reload"]);
    service.signal(Signal::SIGTERM);
    service.ended();

    let text = service.read("day.jsonl");
    let mut lines = text.lines();
    let first = lines.next().expect("the beginning");
    let Beginning { config, kept, seed, now } = serde_json::from_str(first).expect("the first line");
    let mut core = Supervisor::new(config, &kept, seed, now);
    let mut words = String::new();
    for line in lines {
        let step: Step = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let event = format!("{:?}", step.event);
        let actions: Vec<String> = core.step(step.event, step.now).iter().map(spoken).collect();
        assert_eq!(actions, step.actions, "{event}");
        words.push_str(&actions.join(" "));
    }
    for kind in ["worker_crashed", "restart_done", "stopping", "Exit"] {
        assert!(words.contains(kind), "no {kind} in the recording");
    }
}
