//! The mock engine: answers at once, or at the pace a request asks for, and spends as little as it can.
//!
//! Owns its listeners and what leads where. Under mlxsupd it is a native worker (its socket is in the environment) or,
//! told `--socket PATH` or `--port N`, a server of the OpenAI API, as it is for the other contenders. One thread.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::{
    Counters, EngineFacts, Envelope, MemoryFacts, ModelFacts, PROTOCOL, Phase, Settings, WorkerStatus, path, settings,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::mock_answer::{Answer, Asked};

/// What all connections share.
#[derive(Debug)]
struct Mock {
    generation: u64,
    nonce: String,
    slots: u32,
    served: AtomicU64,
}

/// Serves until it is killed.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let option = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1).cloned();
    let variable = |name: &str| std::env::var(name).ok();
    let link = variable(settings::env::SETTINGS).and_then(|text| serde_json::from_str::<Settings>(&text).ok());
    let mock = Arc::new(Mock {
        generation: variable(settings::env::GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0),
        nonce: variable(settings::env::NONCE).unwrap_or_default(),
        slots: link.and_then(|settings| settings.slots).unwrap_or(4),
        served: AtomicU64::new(0),
    });
    let (port, socket) = (option("--port"), option("--socket"));
    let socket = socket.or_else(|| variable(settings::env::SOCKET).filter(|_| port.is_none()));
    let port = port.map(|text| text.parse::<u16>().map_err(io::Error::other)).transpose()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        if let Some(port) = port {
            let listener = TcpListener::bind(("127.0.0.1", port)).await?;
            tokio::spawn(over_tcp(listener, mock.clone()));
        }
        let Some(socket) = socket else { return std::future::pending().await };
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        announce()?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(converse(stream, mock.clone()));
        }
    })
}

async fn over_tcp(listener: TcpListener, mock: Arc<Mock>) {
    while let Ok((stream, _)) = listener.accept().await {
        if stream.set_nodelay(true).is_ok() {
            tokio::spawn(converse(stream, mock.clone()));
        }
    }
}

/// One newline on the inherited descriptor, if there is one.
fn announce() -> io::Result<()> {
    let Ok(number) = std::env::var(settings::env::READY_FD) else { return Ok(()) };
    std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{number}"))?.write_all(b"\n")
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, mock: Arc<Mock>) {
    let service = service_fn(move |request| {
        let mock = mock.clone();
        async move { Ok::<_, Infallible>(mock.answer(request).await) }
    });
    // A connection that breaks is a client that lost interest.
    let _ = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
}

impl Mock {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return document(StatusCode::BAD_REQUEST, &"the body broke off") };
        let body = body.to_bytes();
        match head.uri.path() {
            "/v1/chat/completions" => match serde_json::from_slice::<Asked>(&body) {
                Ok(asked) => self.generate("chatcmpl-mock", &asked, false),
                Err(why) => document(StatusCode::BAD_REQUEST, &why.to_string()),
            },
            path::LINK_CHAT => {
                let envelope = serde_json::from_slice::<Envelope>(&body);
                let asked = envelope.and_then(|envelope| {
                    serde_json::from_str::<Asked>(envelope.request.get()).map(|asked| (envelope.id, asked))
                });
                match asked {
                    Ok((id, asked)) => self.generate(&id, &asked, true),
                    Err(why) => document(StatusCode::BAD_REQUEST, &why.to_string()),
                }
            }
            path::STATUS => document(StatusCode::OK, &self.status()),
            path::CLEAR_CACHE | path::LIMITS => document(StatusCode::OK, &MemoryFacts::default()),
            "/health" | "/v1/models" => document(StatusCode::OK, &serde_json::json!({"data": [{"id": "mock"}]})),
            _ => document(StatusCode::NOT_FOUND, &"no such path"),
        }
    }

    fn generate(&self, id: &str, asked: &Asked, link: bool) -> Response<Answer> {
        self.served.fetch_add(1, Relaxed);
        let streamed = link || asked.stream;
        let mut response = Response::new(Answer::to(id, asked, link));
        let media = if streamed { "text/event-stream" } else { "application/json" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
        response
    }

    fn status(&self) -> WorkerStatus {
        let served = self.served.load(Relaxed);
        WorkerStatus {
            protocol: PROTOCOL,
            pid: std::process::id(),
            generation: self.generation,
            nonce: self.nonce.clone(),
            fingerprint: "mock".to_owned(),
            phase: Phase::Ready,
            failure: None,
            bytes_done: 1 << 20,
            bytes_total: 1 << 20,
            model: Some(ModelFacts {
                name: "mock".to_owned(),
                architecture: "mock".to_owned(),
                precision: "none".to_owned(),
                device: "cpu".to_owned(),
                weights_bytes: 1 << 20,
                kv_bytes_per_token: 0,
                fixed_bytes_per_sequence: 0,
                context_tokens: 1 << 20,
            }),
            engine: EngineFacts {
                // It never stands still, as far as anybody can see.
                steps: served + crate::clients::now() / 1_000_000,
                last_step_age_ms: Some(0),
                pending_prefill_tokens: 0,
                active: 0,
                waiting: 0,
                slots: self.slots,
            },
            memory: MemoryFacts::default(),
            counters: Counters { requests: served, ..Counters::default() },
        }
    }
}

fn document(status: StatusCode, content: &impl serde::Serialize) -> Response<Answer> {
    let body = serde_json::to_vec(content).unwrap_or_default();
    let mut response = Response::new(Answer::whole(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
