use super::*;

fn machine(total_gib: u64) -> Machine {
    let mut machine = Machine { system: "macOS 26.1".to_owned(), ..Machine::default() };
    machine.sample.set(Metric::SystemTotal, Some((total_gib * GIB) as f64));
    machine.sample.set(Metric::SystemAvailable, Some((total_gib * GIB / 2) as f64));
    machine.sample.set(Metric::SystemPressure, Some(1.0));
    machine
}

fn config(memory: &str) -> Config {
    let text = format!("[worker]\nmodel = \"m\"\n[worker.memory]\n{memory}");
    crate::config::parse(&text, std::path::Path::new("t.toml")).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + EARLIEST + Duration::from_secs(1)
}

fn codes(machine: &Machine, asked: Asked<'_>) -> Vec<(Level, &'static str)> {
    judge(machine, asked, now()).iter().map(|finding| (finding.level, finding.code)).collect()
}

#[test]
fn a_calm_machine_is_named_and_left_alone() {
    assert_eq!(codes(&machine(64), Asked::default()), [(Level::Ok, "machine")]);
    let named = Machine { chip: Some("Apple M1 Max".to_owned()), ..machine(64) };
    assert_eq!(judge(&named, Asked::default(), now())[0].what, "macOS 26.1, Apple M1 Max, 64.0 GiB of memory");
    let mut told = named;
    told.settings.gpu_in_use = Some(36 * GIB);
    assert!(
        judge(&told, Asked::default(), now())[0].what.ends_with("64.0 GiB of memory, 36.0 GiB of it in use by the GPU")
    );
}

#[test]
fn pressure_and_compression_are_told_apart_by_whose_they_are() {
    let mut pressed = machine(64);
    pressed.sample.set(Metric::SystemPressure, Some(4.0));
    pressed.sample.set(Metric::SystemCompressed, Some((19 * GIB) as f64));
    let expected = [(Level::Ok, "machine"), (Level::Warning, "memory_pressure"), (Level::Note, "much_compressed")];
    assert_eq!(codes(&pressed, Asked::default()), expected);
    pressed.worker_compressed = Some(12 * GIB);
    assert_eq!(codes(&pressed, Asked::default())[2], (Level::Warning, "weights_compressed"));
}

#[test]
fn room_is_judged_as_the_gate_will() {
    let asked = |gib: u64, resident| Asked { model_bytes: Some(gib * GIB), resident, ..Asked::default() };
    assert_eq!(codes(&machine(64), asked(60, false))[1], (Level::Problem, "model_too_large"));
    assert_eq!(codes(&machine(64), asked(40, false))[1], (Level::Warning, "no_room"));
    assert_eq!(codes(&machine(64), asked(40, true))[1], (Level::Ok, "room"));
    assert_eq!(codes(&machine(64), asked(30, false))[1], (Level::Ok, "room"));
    // Small machines keep half of themselves, not less than nothing.
    assert_eq!(codes(&machine(8), asked(3, false))[1], (Level::Ok, "room"));
}

#[test]
fn a_wired_limit_must_fit_the_gpus_and_leave_the_system_its_own() {
    let with = |wired: &str, mib: u64| {
        let config = config(&format!("wired_limit = \"{wired}\""));
        let mut machine = machine(64);
        machine.settings.gpu_wired_limit_mib = Some(mib);
        codes(&machine, Asked { config: Some(&config), ..Asked::default() })[1..].to_vec()
    };
    assert_eq!(with("45GiB", 0), []);
    assert_eq!(with("60GiB", 0), [(Level::Warning, "wired_limit_high")]);
    assert_eq!(with("45GiB", 40 * 1024), [(Level::Note, "gpu_limit_set"), (Level::Problem, "wired_limit_refused")]);
    assert_eq!(with("auto", 60 * 1024), [(Level::Warning, "gpu_limit_high")]);
}

#[test]
fn what_macos_does_with_idle_weights_depends_on_its_version() {
    let with = |macos: u32, memory: &str| {
        let config = config(memory);
        let mut machine = machine(64);
        machine.settings.macos = Some(macos);
        codes(&machine, Asked { config: Some(&config), ..Asked::default() })[1..].to_vec()
    };
    assert_eq!(with(14, ""), [(Level::Warning, "no_residency")]);
    assert_eq!(with(15, ""), []);
    assert_eq!(with(26, ""), [(Level::Note, "idle_unwired")]);
    assert_eq!(with(26, "idle_keep_warm = \"500ms\""), []);
}

#[test]
fn linux_says_what_keeps_weights_out() {
    let mut machine = machine(64);
    machine.settings = Settings {
        overcommit: Some(2),
        commit_left: Some(10 * GIB),
        stall_measured: Some(false),
        out_of_memory_kills: Some(3),
        ..Settings::default()
    };
    let asked = Asked { model_bytes: Some(20 * GIB), ..Asked::default() };
    let found = codes(&machine, asked);
    assert_eq!(found[2..], [(Level::Problem, "overcommit"), (Level::Note, "no_stall"), (Level::Note, "oom_kills")]);
}

#[test]
fn a_clock_that_is_wrong_is_noticed() {
    let level = |written: Option<SystemTime>, now| clock(written, now).map(|finding| finding.code);
    assert_eq!(level(Some(now() + Duration::from_secs(3600)), now()), Some("clock"));
    assert_eq!(level(Some(now()), now()), None);
    assert_eq!(level(None, SystemTime::UNIX_EPOCH), Some("clock"));
}
