//! What it says although it is not so.

use mlxsup_worker_api::Phase;

use crate::lone::Lone;

#[test]
fn it_says_ready_and_refuses_everything() {
    let worker = Lone::ready("{\"refuse_generations\":503}");
    assert!(worker.complete(3).starts_with("HTTP/1.1 503 "));
    assert_eq!(worker.status().phase, Phase::Ready);
}

#[test]
fn it_says_ready_before_it_is_loaded() {
    let mut worker = Lone::new("{\"ready_before_load\":true,\"load_ms\":60000}");
    worker.start();
    worker.wait_until("ready", |status| status.phase == Phase::Ready);
    assert!(worker.complete(3).starts_with("HTTP/1.1 503 "));
}

#[test]
fn its_steps_stand_still_while_it_works() {
    let worker = Lone::ready("{\"frozen_steps\":true}");
    assert!(worker.complete(3).contains("event: end"));
    assert_eq!(worker.status().engine.steps, 0);
}

#[test]
fn its_nonce_is_somebody_elses() {
    assert_eq!(Lone::ready("{\"status_lies\":true}").status().nonce, "0".repeat(32));
    assert_eq!(Lone::ready("{}").status().nonce, "f".repeat(32));
}

#[test]
fn its_canary_says_the_wrong_word() {
    let worker = Lone::ready("{\"canary_wrong\":true}");
    assert!(worker.complete(1).contains("wrong "));
    assert!(worker.complete(2).contains("w2 "), "only the canary");
    assert!(Lone::ready("{}").complete(1).contains("w1 "));
}

#[test]
fn its_footprint_grows() {
    let worker = Lone::ready("{\"footprint_bytes\":1000,\"growth_bytes_per_s\":1000000}");
    worker.wait_until("grown", |status| status.memory.footprint_bytes.unwrap() > 100_000);
}
