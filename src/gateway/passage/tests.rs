use super::*;

fn body(json: &'static str) -> Bytes {
    Bytes::from_static(json.as_bytes())
}

fn sent(json: &'static str) -> String {
    String::from_utf8(with_model(&body(json), "real \"one\"").concat()).unwrap()
}

#[test]
fn the_models_name_is_replaced_and_nothing_else() {
    assert_eq!(
        sent(r#"{ "a": 1, "model" : "x" , "b":"model"}"#),
        r#"{ "a": 1, "model" : "real \"one\"" , "b":"model"}"#
    );
    assert_eq!(sent(r#"{"model":null}"#), r#"{"model":"real \"one\""}"#);
    assert_eq!(sent(r#" {"messages":[]}"#), r#" {"model":"real \"one\"","messages":[]}"#);
    assert_eq!(sent("{ }"), r#"{"model":"real \"one\"" }"#);
    let escaped: serde_json::Value = serde_json::from_str(&sent(r#"{"mod\u0065l":"x"}"#)).unwrap();
    assert_eq!(escaped["model"], "real \"one\"");
}

/// Splits a stream that arrives in parts of `size` bytes.
fn split(stream: &str, size: usize) -> Vec<String> {
    let mut events = Events::default();
    let mut whole = Vec::new();
    for part in stream.as_bytes().chunks(size) {
        events.feed(part);
        while let Some(event) = events.next() {
            whole.push(String::from_utf8(event.to_vec()).unwrap());
        }
    }
    whole
}

#[test]
fn events_stay_whole_however_their_bytes_arrive() {
    let stream = ": note\n\ndata: {\"a\":1}\n\ndata: b\r\ndata: c\r\n\r\n\ndata: [DONE]\n\nleft over";
    let whole = split(stream, stream.len());
    assert_eq!(whole.concat(), stream.strip_suffix("left over").unwrap());
    assert_eq!(whole[2], "data: b\r\ndata: c\r\n\r\n");
    for size in 1..20 {
        assert_eq!(split(stream, size), whole, "in parts of {size} bytes");
    }
}

#[test]
fn what_an_event_means() {
    assert!(matches!(Word::of(b": 3/9\n\n"), Word::Comment));
    assert!(matches!(Word::of(b"data: {\"choices\":[]}\n\n"), Word::Chunk));
    assert!(matches!(Word::of(b"data:[DONE]\r\n\r\n"), Word::Done));
    let quoted = b"data: {\"choices\":[{\"text\":\"data: [DONE] {\\\"error\\\"\"}]}\n\n";
    assert!(matches!(Word::of(quoted), Word::Chunk));
    for failure in [&b"event: error\ndata: out of memory\n\n"[..], b"data: {\"error\": \"out of memory\"}\n\n"] {
        let Word::Error(object) = Word::of(failure) else { panic!("not seen") };
        assert_eq!(object.error.message, "out of memory");
    }
}

#[test]
fn errors_of_any_shape_get_the_one_that_clients_know() {
    let of = |document: &str| error_object(document.as_bytes(), Code::EngineError).error;
    let openai =
        of(r#"{"error":{"message":"too long","type":"x","param":"messages","code":"context_length_exceeded"}}"#);
    assert_eq!((openai.message.as_str(), openai.param.as_deref()), ("too long", Some("messages")));
    assert_eq!(openai.code.as_deref(), Some("context_length_exceeded"));
    assert_eq!(of(r#"{"error":"no"}"#).message, "no");
    assert_eq!(of(r#"{"detail":"no"}"#).message, "no");
    assert_eq!(of(r#"{"error":{"message":"no","code":400}}"#).code.as_deref(), Some("engine_error"));
    assert_eq!(of("<h1>Oops</h1>").message, "<h1>Oops</h1>");
    assert!(of("").message.contains("worker.log") && of("{}").message.contains("worker.log"));
}

#[test]
fn a_status_is_kept_or_means_another_try() {
    assert!(matches!(refused(503, b"{\"error\":\"loading\"}"), LegEnd::Lost { why } if why.contains("loading")));
    for (given, kept) in [(400, 400), (404, 404), (500, 500), (302, 500)] {
        assert!(matches!(refused(given, b"no"), LegEnd::Passed { status, .. } if status == kept), "{given}");
    }
}
