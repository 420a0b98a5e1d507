//! The TCP listener: keys, and what keeps browsers out where there are none.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use mlxsup::config;
use mlxsup::daemon::handle::{Class, Directive};
use mlxsup::gateway::Access;
use mlxsup::supervisor::{Code, Refusal};

use crate::harness::{Answer, Gateway};

const CHAT: &str = "/v1/chat/completions";
const LAPTOP: &str = "laptop-0123456789abcdef";
const NIGHT: &str = "night-0123456789abcdef";

/// The access that a key file with these lines gives.
fn keys(lines: &str) -> Access {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("api.key");
    std::fs::write(&file, lines).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("closed to others");
    let text = "[listen]\ntcp = \"127.0.0.1:1\"\napi_key_file = \"api.key\"\n[worker]\nmodel = \"m\"\n";
    let config = config::parse(text, Path::new("test.toml")).expect("valid");
    Access::load(&config, home.path()).expect("good keys")
}

fn keyed() -> Gateway {
    let gateway = Gateway::start();
    let lines = format!("laptop {LAPTOP}\nnight {NIGHT} max_class=batch max_active=2\n");
    gateway.access.send_replace(Arc::new(keys(&lines)));
    gateway
}

fn keyless() -> Gateway {
    let gateway = Gateway::start();
    gateway.access.send_replace(Arc::new(Access::Keyless));
    gateway
}

impl Gateway {
    /// One request over TCP; `headers` are all there are.
    async fn over_tcp(&self, line: &str, headers: &str) -> Answer {
        let mut client = self.connect_tcp().await;
        client.send(&format!("{line} HTTP/1.1\r\n{headers}\r\n")).await;
        client.answer().await
    }
}

#[tokio::test]
async fn only_a_known_key_is_let_in() {
    let gateway = keyed();
    for authorization in ["Bearer", "bearer", "BEARER "] {
        let headers = format!("host: model.example\r\nauthorization: {authorization} {LAPTOP}\r\n");
        assert_eq!(gateway.over_tcp("GET /v1/models", &headers).await.status, 200, "{authorization}");
    }
    for (what, headers) in [
        ("missing", String::new()),
        ("empty", "authorization:\r\n".into()),
        ("wrong", format!("authorization: Bearer {LAPTOP}x\r\n")),
        ("cut", format!("authorization: Bearer {}\r\n", &LAPTOP[1..])),
        ("its name", "authorization: Bearer laptop\r\n".into()),
        ("without scheme", format!("authorization: {LAPTOP}\r\n")),
        ("another scheme", format!("authorization: Basic {LAPTOP}\r\n")),
        ("two", format!("authorization: Bearer {LAPTOP}\r\nauthorization: Bearer {LAPTOP}\r\n")),
        ("another header", format!("x-api-key: {LAPTOP}\r\n")),
        ("far too long", format!("authorization: Bearer {}\r\n", "k".repeat(20_000))),
        ("no text", "authorization: Bearer \u{fe}\u{ff}\r\n".into()),
    ] {
        for line in ["GET /v1/models", "GET /ready", &format!("POST {CHAT}")] {
            let answer = gateway.over_tcp(line, &format!("host: x\r\n{headers}")).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{what}");
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.json()["error"]["type"], "authentication_error");
            assert!(!answer.body.contains("0123456789"), "a key in an answer: {}", answer.body);
        }
    }
    assert_eq!(gateway.over_tcp("GET /health", "host: x\r\n").await.status, 200, "alive, for everyone");
}

#[tokio::test]
async fn a_turned_away_request_is_on_record_under_its_address() {
    let mut gateway = keyed();
    let mut client = gateway.connect_tcp().await;
    client.post(CHAT, "authorization: Bearer nonsense\r\n", "{}").await;
    assert_eq!(client.answer().await.status, 401);
    let record = gateway.record().await;
    assert_eq!((record.status, record.code.as_deref()), (401, Some("invalid_api_key")));
    assert_eq!(record.client, "tcp:127.0.0.1");
    client.post(CHAT, &format!("authorization: Bearer {LAPTOP}\r\n"), "{}").await;
    assert_eq!(gateway.submitted().await.submission.principal, "laptop", "its body was read, the connection stays");
}

#[tokio::test]
async fn a_key_names_the_principal_and_caps_the_class() {
    let mut gateway = keyed();
    for (key, priority, body, class) in [
        (LAPTOP, "x-mlxsup-priority: interactive\r\n", "{}", Class::Interactive),
        (LAPTOP, "", "{\"service_tier\":\"flex\"}", Class::Batch),
        (NIGHT, "x-mlxsup-priority: interactive\r\n", "{}", Class::Batch),
        (NIGHT, "", "{\"service_tier\":\"priority\"}", Class::Batch),
        (NIGHT, "", "{}", Class::Batch),
    ] {
        let mut client = gateway.connect_tcp().await;
        let headers = format!("authorization: Bearer {key}\r\nx-mlxsup-client: agent\r\n{priority}");
        client.post(CHAT, &headers, body).await;
        let submitted = gateway.submitted().await;
        let name = if key == LAPTOP { "laptop" } else { "night" };
        assert_eq!(submitted.submission.principal, name);
        assert_eq!(submitted.submission.client.as_deref(), Some("agent"));
        assert_eq!(submitted.submission.class, class, "{key} {priority} {body}");
        let refusal = Refusal::new(Code::Unloaded, "unloaded");
        submitted.directives.send(Directive::Refused(Box::new(refusal))).await.expect("the session lives");
        assert_eq!(client.answer().await.status, 503);
        gateway.report().await;
        let record = gateway.record().await;
        assert_eq!((record.client, record.class), (format!("{name}/agent"), class));
    }
}

#[tokio::test]
async fn keys_change_while_connections_stay() {
    let gateway = keyed();
    let mut client = gateway.connect_tcp().await;
    let ask = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {LAPTOP}\r\n\r\n");
    client.send(&ask).await;
    assert_eq!(client.answer().await.status, 200);
    gateway.access.send_replace(Arc::new(keys(&format!("other {NIGHT}\n"))));
    client.send(&ask).await;
    assert_eq!(client.answer().await.status, 401);
    gateway.access.send_replace(Arc::new(Access::Closed));
    client.send(&ask).await;
    assert_eq!(client.answer().await.code(), "invalid_api_key");
}

#[tokio::test]
async fn without_keys_this_machine_is_served_and_no_page_in_a_browser() {
    let mut gateway = keyless();
    for host in ["localhost", "LOCALHOST:11535", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:11535"] {
        assert_eq!(gateway.over_tcp("GET /v1/models", &format!("host: {host}\r\n")).await.status, 200, "{host}");
    }
    let own = "host: localhost\r\n";
    assert_eq!(gateway.over_tcp("GET http://localhost/v1/models", own).await.status, 200);
    for (line, headers) in [
        ("GET /v1/models", "host: evil.example\r\n"),
        ("GET /v1/models", "host: localhost.evil.example\r\n"),
        ("GET /v1/models", "host: 192.168.0.7\r\n"),
        ("GET /v1/models", "host: localhost@evil.example\r\n"),
        ("GET /v1/models", "host:\r\n"),
        ("GET /v1/models", ""),
        ("GET /v1/models", "host: localhost\r\nhost: evil.example\r\n"),
        ("GET http://evil.example/v1/models", own),
        ("GET /v1/models", "host: localhost\r\norigin: https://evil.example\r\n"),
        ("GET /v1/models", "host: localhost\r\norigin: http://localhost:3000\r\n"),
        ("GET /v1/models", "host: localhost\r\norigin: null\r\n"),
        ("GET /v1/models", "host: localhost\r\nsec-fetch-site: cross-site\r\n"),
        ("GET /health", "host: evil.example\r\n"),
        ("GET /nothing", "host: evil.example\r\n"),
        ("OPTIONS /v1/chat/completions", "host: localhost\r\norigin: https://evil.example\r\n"),
    ] {
        let answer = gateway.over_tcp(line, headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "origin_not_allowed"), "{line} {headers}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let mut client = gateway.connect_tcp().await;
    client.send(&format!("POST {CHAT} HTTP/1.1\r\n{own}content-length: 2\r\n\r\n{{}}")).await;
    assert_eq!(gateway.submitted().await.submission.principal, "tcp:127.0.0.1");
}

#[tokio::test]
async fn the_stable_socket_asks_for_no_key_and_no_host() {
    for access in [Access::Closed, Access::Keyless, keys(&format!("a {LAPTOP}\n"))] {
        let gateway = Gateway::start();
        gateway.access.send_replace(Arc::new(access));
        let mut client = gateway.connect().await;
        client.send("GET /v1/models HTTP/1.1\r\nhost: any\r\norigin: http://any\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn no_cross_origin_headers_are_ever_sent() {
    let gateway = keyed();
    let preflight = "host: x\r\norigin: https://page.example\r\naccess-control-request-method: POST\r\n";
    for (path, allow) in [(CHAT, "POST"), ("/v1/models", "GET, HEAD"), ("/health", "GET, HEAD")] {
        let answer = gateway.over_tcp(&format!("OPTIONS {path}"), preflight).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{path}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    }
    let headers = format!("{preflight}authorization: Bearer {LAPTOP}\r\n");
    let answer = gateway.over_tcp("GET /v1/models", &headers).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
}

#[tokio::test]
async fn a_large_body_without_a_key_is_answered_and_not_reset() {
    let gateway = keyed();
    let mut client = gateway.connect_tcp().await;
    let body = "x".repeat(3 << 20);
    client.post(CHAT, "", &body).await;
    assert_eq!(client.answer().await.status, 401);
}

#[tokio::test]
async fn a_client_that_waits_for_permission_to_send_is_answered_at_once() {
    let mut gateway = keyed();
    let head = |key: &str, length: u64| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\
             authorization: Bearer {key}\r\n\r\n"
        )
    };
    for (key, length, status) in [("nonsense", 2, 401), (LAPTOP, 99 << 20, 413)] {
        let mut client = gateway.connect_tcp().await;
        client.send(&head(key, length)).await;
        assert_eq!(client.answer().await.status, status, "and no 100 before it");
    }
    let mut client = gateway.connect_tcp().await;
    client.send(&head(LAPTOP, 2)).await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("{}").await;
    assert_eq!(gateway.submitted().await.submission.body_bytes, 2);
}
