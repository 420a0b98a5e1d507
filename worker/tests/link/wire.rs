//! The link from the daemon's end: requests over the Unix socket, replies taken apart into events.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::{EventId, WorkerStatus, path};
use serde_json::Value;
use tokio::net::UnixStream;

/// Between two looks at a state that is waited for.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where a worker listens.
#[derive(Debug, Clone)]
pub struct Link(pub PathBuf);

impl Link {
    /// Sends a request and returns once the head of the reply is there. Dropping the reply hangs up.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> hyper::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.0).await.expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::<Bytes>::from(body.to_string())).expect("a request")).await
    }

    /// Status and body of a finished reply.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
        let response = self.open(method, path, headers, body).await.expect("a reply");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// What the worker says about itself.
    pub async fn status(&self) -> WorkerStatus {
        let (code, status) = self.send("GET", path::STATUS, &[], &Value::Null).await;
        assert_eq!(code, 200, "{status}");
        serde_json::from_str(&status).expect("a status")
    }

    /// Waits until the worker says something about itself.
    pub async fn until(&self, holds: impl Fn(&WorkerStatus) -> bool) -> WorkerStatus {
        loop {
            let status = self.status().await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// One event of a link reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: Option<EventId>,
    /// Empty for chunks and tokens.
    pub name: String,
    pub data: Option<String>,
}

/// The events of a whole reply. Comments follow the clock, not the request: they are left out.
pub fn events(reply: &str) -> Vec<Event> {
    assert!(reply.ends_with("\n\n"), "the reply breaks off: {reply}");
    let blocks = reply.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    blocks
        .map(|block| {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            Event {
                id: field("id: ").map(|id| id.parse().expect("an event id")),
                name: field("event: ").unwrap_or_default().to_owned(),
                data: field("data: ").map(str::to_owned),
            }
        })
        .collect()
}
