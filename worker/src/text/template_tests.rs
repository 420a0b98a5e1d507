use serde_json::json;

use super::*;

fn compile(text: &str) -> ChatTemplate {
    let mut sources = Sources { default: Some(text.to_owned()), ..Sources::default() };
    sources.special_tokens.insert("bos_token".to_owned(), "<s>".to_owned());
    ChatTemplate::compile(sources).expect("a valid template")
}

fn render(text: &str, messages: &[Json]) -> String {
    compile(text).render(&TemplateInput { messages, ..TemplateInput::default() }).expect("a prompt")
}

#[test]
fn blocks_take_their_own_lines_away() {
    let text = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n{{ m.content | trim }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(render(text, &[json!({"role": "user", "content": " hi "})]), "<s>\nhi\n");
}

#[test]
fn chatml_as_smollm_writes_it() {
    let text = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    assert_eq!(
        render(text, &[json!({"role": "user", "content": "Hi"})]),
        "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn python_habits_work() {
    let text = concat!(
        "{%- set ns = namespace(n=0) -%}",
        "{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + 1 -%}{%- if m.content is string -%}",
        "{{ m.content.split('</think>')[-1].lstrip('\\n') }}|{%- endif -%}{%- endfor -%}",
        "{{ ns.n }} {{ messages[0].get('nothing') }} {{ true }} {{ messages[0].items() | list | length }} ",
        "{{ 'x'.startswith('x') }} {{ enable_thinking is defined }} {{ strftime_now is defined }}",
        "{%- for i in range(3) -%}{%- if i == 1 -%}{%- continue -%}{%- endif -%}{{ i }}{%- endfor -%}",
    );
    let messages =
        [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "<think>x</think>\n\nb"})];
    assert_eq!(render(text, &messages), "b|a|2 None True 2 True False True02");
}

#[test]
fn tools_are_written_as_python_does() {
    let template = compile("{{ tools | tojson }}|{{ tools[0] | tojson(indent=2) }}");
    let tools = json!([{"type": "function", "function": {"name": "f<>", "a": [1, 2]}}]);
    let text = template.render(&TemplateInput { tools: Some(&tools), ..TemplateInput::default() }).expect("a prompt");
    let (line, indented) = text.split_once('|').expect("two parts");
    assert_eq!(line, r#"[{"type": "function", "function": {"name": "f<>", "a": [1, 2]}}]"#);
    assert!(indented.starts_with("{\n  \"type\": \"function\",\n"), "{indented}");
}

#[test]
fn a_refusal_carries_the_templates_words() {
    let template = compile("{{ raise_exception('roles must alternate') }}");
    let error = template.render(&TemplateInput::default()).expect_err("refused").to_string();
    assert!(error.contains("roles must alternate"), "{error}");
    let error = compile("{{ messages[0].content.nope() }}");
    let messages = [json!({"content": "x"})];
    assert!(error.render(&TemplateInput { messages: &messages, ..TemplateInput::default() }).is_err());
}

#[test]
fn the_clock_is_the_requests() {
    let template = compile("{{ strftime_now('%Y') }}");
    let at = |created| template.render(&TemplateInput { created, ..TemplateInput::default() }).expect("a prompt");
    // The middle of a year, so that the zone does not matter.
    assert_eq!((at(1_750_000_000), at(1_718_000_000)), ("2025".to_owned(), "2024".to_owned()));
    let bad = compile("{{ strftime_now('%Q') }}").render(&TemplateInput::default());
    assert!(bad.is_err());
}

#[test]
fn training_marks_are_ignored() {
    assert_eq!(render("a{%- generation -%} b {% endgeneration %}c", &[]), "ab c");
}

#[test]
fn variables_and_named_templates() {
    let config = json!({"chat_template": [
        {"name": "default", "template": "plain {{ enable_thinking }}"}, {"name": "tool_use", "template": "tools"}]});
    let template = ChatTemplate::compile(Sources::from_config(&config)).expect("valid templates");
    let variables = json!({"enable_thinking": false});
    let input = TemplateInput { variables: variables.as_object(), ..TemplateInput::default() };
    assert_eq!(template.render(&input).expect("a prompt"), "plain False");
    let tools = json!([]);
    assert_eq!(template.render(&TemplateInput { tools: Some(&tools), ..input }).expect("a prompt"), "tools");
}

#[test]
fn a_broken_or_missing_template_is_told() {
    let broken = Sources { default: Some("{% if %}".to_owned()), ..Sources::default() };
    assert!(ChatTemplate::compile(broken).expect_err("refused").contains("cannot be used"));
    assert!(ChatTemplate::compile(Sources::default()).expect_err("refused").contains("no chat template"));
}
