//! Memory rules from a real sample to their action.

use crate::service::Service;

const TWO_RULES: &str = "\
[[rule]]
name = \"hoarding\"
when = [ { metric = \"mlx.cache\", above = \"64MiB\" } ]
for = \"0s\"
action = \"clear-cache\"
cooldown = \"1h\"

[[rule]]
name = \"old\"
when = [ { metric = \"worker.uptime\", above = \"2s\" } ]
for = \"0s\"
action = \"restart\"
cooldown = \"1h\"
";

#[test]
fn a_full_cache_is_cleared_and_an_old_worker_replaced() {
    let mut service = Service::serving("\"cache_bytes\":536870912", TWO_RULES);
    let why = service.wait_for_event("rule_fired", "hoarding");
    assert!(why.contains("64") && why.contains("512"), "the arithmetic is told: {why}");
    service.wait_for_event("cache_cleared", "0");
    let why = service.wait_for_event("rule_fired", "old");
    assert!(why.contains("worker.uptime"), "{why}");
    let status =
        service.wait_until("the restart", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    assert_eq!(status["last_restart"]["reason"], "rule old");
    let rules = service.ctl(&["rules"]).ok().out;
    assert!(rules.contains("hoarding") && rules.contains("old"), "{rules}");
}

#[test]
fn a_rule_on_what_this_worker_does_not_report_says_so() {
    let rest = "[[rule]]\nname = \"prefixes\"\nwhen = [ { metric = \"prefix_cache.bytes\", above = \"1B\" } ]\n\
                for = \"0s\"\naction = \"restart\"\n";
    let mut service = Service::serving("", rest);
    let status = service.wait_until("a sample", |status| status["memory"]["mlx.cache"].is_number());
    assert!(status["memory"]["prefix_cache.bytes"].is_null(), "n/a is never 0: {status}");
    let rules = status["rules"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["name"] == "prefixes").unwrap();
    assert_eq!(rule["state"], "off", "{rule}");
    assert!(rule["explain"].as_str().unwrap().contains("not reported"), "{rule}");
}

const PROMPTS: &str = "\
[[rule]]
name = \"prompts\"
when = [ { metric = \"prefix_cache.bytes\", above = \"64MiB\" } ]
for = \"0s\"
action = \"trim-prefix-cache\"
cooldown = \"1h\"
";

#[test]
fn saved_prompts_are_forgotten_and_the_event_tells_of_how_many_bytes() {
    let mut service = Service::serving("\"prefix_cache_bytes\":536870912", PROMPTS);
    let told = service.wait_for_event("prefix_cache_trimmed", "prefix cache");
    assert!(told.contains("512 MiB → 0 B"), "{told}");
    let status = service.wait_until("the next sample", |status| status["memory"]["prefix_cache.bytes"] == 0.0);
    assert_eq!(status["worker"]["generation"], 1, "{status}");
}
