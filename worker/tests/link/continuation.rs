//! Real answers, cut after every event and continued: the client must not be able to tell.

use mlxsup_worker_api::path;
use serde_json::{Value, json};

use crate::record::{Asked, Record};
use crate::spawned::Spawned;

fn chat(request: Value) -> Asked {
    Asked { path: path::LINK_CHAT, request, seed: 9 }
}

fn completion(request: Value) -> Asked {
    Asked { path: path::LINK_COMPLETIONS, request, seed: 9 }
}

/// Answers once undisturbed and once for every cut.
async fn checked(worker: &Spawned, asked: Asked) -> Record {
    let whole = asked.events(&worker.link, &json!([])).await;
    asked.survives_every_cut(&worker.link, &whole).await;
    Record::of(&asked, &whole)
}

#[tokio::test]
async fn streams_go_on_after_every_event() {
    let worker = Spawned::ready(&json!({"slots": 4}));

    // Ends by itself, with everything a stream can carry.
    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let answer = checked(
        &worker,
        chat(json!({"messages": question, "temperature": 0, "stream": true, "logprobs": true, "top_logprobs": 2,
            "stream_options": {"include_usage": true}})),
    );
    let answer = answer.await;
    assert_eq!(answer.text(0), "The capital of France is Paris.");
    assert_eq!(answer.ids(0).last(), Some(&2), "the last token is the one that ends an answer");

    // Every character is several tokens, and the last token allowed ends inside one.
    let request = json!({"prompt": "🦀🦀🦀🦀🦀🦀", "temperature": 0, "stream": true, "max_tokens": 5});
    let answer = checked(&worker, completion(request)).await;
    assert_eq!((answer.text(0).as_str(), answer.ids(0).len()), ("🦀\u{FFFD}", 5));

    // A stop string of several tokens, each of them a part of a character.
    let request = json!({"prompt": "東京 大阪 東京 大阪 東京", "temperature": 0, "stream": true, "stop": ["阪"],
        "max_tokens": 24});
    let answer = checked(&worker, completion(request)).await;
    assert_eq!(answer.text(0), " 大");

    // Drawn, with all that looks back on what was said.
    let request = json!({"prompt": "The colours of the rainbow are red, red, red,", "stream": true, "max_tokens": 6,
        "temperature": 1.2, "top_p": 0.95, "top_k": 500, "frequency_penalty": 0.8, "presence_penalty": 0.5,
        "repetition_penalty": 1.2, "logit_bias": {"2625": 3, "28": 1}, "logprobs": 1});
    let answer = checked(&worker, completion(request)).await;
    assert_eq!(answer.ids(0).len(), 6);

    // Three choices, one of which ends with its first token.
    let request = json!({"prompt": "My favourite fruit is", "stream": true, "max_tokens": 4, "n": 3, "seed": 7,
        "stop": [",", ".", " the"], "stream_options": {"include_usage": true}});
    let answer = checked(&worker, completion(request)).await;
    let lengths = [0, 1, 2].map(|choice| answer.ids(choice).len());
    assert_eq!((lengths, answer.text(1).as_str()), ([4, 1, 4], ""));
}

#[tokio::test]
async fn plain_answers_are_whole_after_every_event() {
    let worker = Spawned::ready(&json!({"slots": 4}));
    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let answer = checked(
        &worker,
        chat(json!({"messages": question, "temperature": 0, "logprobs": true, "top_logprobs": 3, "max_tokens": 4})),
    );
    let answer = answer.await.result();
    assert_eq!(answer["choices"][0]["message"]["content"], "The capital of France");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["logprobs"]["content"].as_array().map(Vec::len), Some(4));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 37, "completion_tokens": 4, "total_tokens": 41}));

    let request = json!({"prompt": "café, thé, café, thé,", "n": 2, "max_tokens": 4, "stop": " thé",
        "temperature": 0.7, "logprobs": 2, "presence_penalty": 0.4});
    let answer = checked(&worker, completion(request)).await.result();
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(2));
}
