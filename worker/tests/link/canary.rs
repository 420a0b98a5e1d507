//! The daemon's sign of life: one greedy token of a fixed short prompt.

use http_body_util::BodyExt;
use mlxsup_worker_api::{WorkerStatus, path};
use serde_json::json;

use crate::record::Asked;
use crate::spawned::Spawned;

fn canary() -> Asked {
    let request = json!({"prompt": "1 2 3 4 5 6 7 8", "max_tokens": 1, "temperature": 0, "stream": false});
    Asked { path: path::LINK_COMPLETIONS, request, seed: 0 }
}

/// The ids that the daemon reads from the event before the result.
async fn sung(worker: &Spawned) -> Vec<u32> {
    let events = canary().events(&worker.link, &json!([])).await;
    let [token, result] = events.as_slice() else { panic!("not a token and a result: {events:?}") };
    assert_eq!(result.name, "result");
    let id = token.id.as_ref().expect("an id");
    assert_eq!((id.choice, id.tokens), (0, 1));
    id.new_ids.clone()
}

#[tokio::test]
async fn a_canary_costs_one_step_and_always_sings_the_same() {
    let worker = Spawned::ready(&json!({"slots": 1}));
    let before = worker.link.status().await;
    let first = sung(&worker).await;
    let idle = |status: &WorkerStatus| status.engine.active == 0 && status.engine.waiting == 0;
    let after = worker.link.until(|status| idle(status) && status.engine.steps > before.engine.steps).await;
    assert_eq!(after.engine.steps, before.engine.steps + 1);
    assert_eq!(after.memory.kv_bytes, Some(0), "nothing of it is kept");
    assert_eq!(after.memory.prefix_cache_bytes, before.memory.prefix_cache_bytes);

    // With every slot taken it waits its turn like any request.
    let long = json!({"id": "cmpl-1", "created": 1, "seed": 1, "request": {"prompt": "Once upon a time", "stream": true,
        "max_tokens": 4000, "temperature": 0, "logit_bias": {"0": -100, "2": -100}}});
    let mut stream = worker.link.open("POST", path::LINK_COMPLETIONS, &[], &long).await.expect("a stream");
    stream.frame().await.expect("a frame").expect("bytes");
    let waiting = async {
        worker.link.until(|status| status.engine.waiting == 1).await;
        drop(stream);
    };
    let (again, ()) = tokio::join!(sung(&worker), waiting);
    assert_eq!(again, first);

    // Several at once queue up as well.
    let (one, two, three) = tokio::join!(sung(&worker), sung(&worker), sung(&worker));
    assert_eq!([one, two, three], [first.clone(), first.clone(), first]);
}
