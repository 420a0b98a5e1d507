//! A daemon's sockets without a daemon: answers scripted per path, from a thread of its own.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};

/// One scripted answer.
#[derive(Clone)]
pub enum Reply {
    /// Status and JSON.
    Json(u16, String),
    /// Pieces of a stream that ends as it should.
    Stream(Vec<String>),
    /// Pieces of a stream that then breaks off.
    BrokenStream(Vec<String>),
    /// This answer once the status script has been used up and is asked for again: everything in it was seen.
    Held(Box<Reply>),
    /// Never answered.
    Never,
    /// This answer, and then nobody listens any more.
    Last(Box<Reply>),
}

impl Reply {
    pub fn ok(value: &impl serde::Serialize) -> Self {
        Self::Json(200, serde_json::to_string(value).unwrap())
    }

    pub fn held(self) -> Self {
        Self::Held(Box::new(self))
    }
}

/// What is shared between connections.
struct Script {
    replies: Mutex<BTreeMap<String, VecDeque<Reply>>>,
    last_status_given: AtomicBool,
    status_used_up: watch::Sender<bool>,
    requests: Mutex<Vec<String>>,
    arrived: watch::Sender<usize>,
    closing: AtomicBool,
    closed: Notify,
}

/// A listening server. Lives as long as the test's process; its socket, as long as the home.
pub struct Server {
    script: Arc<Script>,
}

impl Server {
    /// Listens before it returns. Keys are `METHOD /path`; the last reply of each repeats.
    pub fn start(socket: &Path, replies: Vec<(&str, Vec<Reply>)>) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let replies = replies.into_iter().map(|(key, list)| (key.to_owned(), list.into())).collect();
        let script = Arc::new(Script {
            replies: Mutex::new(replies),
            last_status_given: AtomicBool::new(false),
            status_used_up: watch::Sender::new(false),
            requests: Mutex::default(),
            arrived: watch::Sender::new(0),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
        });
        let (shared, path) = (script.clone(), socket.to_owned());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                serve(UnixListener::from_std(listener).unwrap(), shared).await;
                std::fs::remove_file(path).unwrap();
            });
        });
        Self { script }
    }

    /// `METHOD /path body` of everything asked so far, status questions left out: their number depends on time.
    pub fn orders(&self) -> Vec<String> {
        let requests = self.script.requests.lock().unwrap();
        requests.iter().filter(|request| !request.starts_with("GET /v1/status")).cloned().collect()
    }

    /// Blocks until `count` requests other than status questions have come.
    pub fn wait_for_orders(&self, count: usize) {
        let mut arrived = self.script.arrived.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(arrived.wait_for(|seen| *seen >= count)).unwrap();
    }
}

async fn serve(listener: UnixListener, script: Arc<Script>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = script.closed.notified() => return,
        };
        let script = script.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, script.clone()));
            // A client that hangs up is part of some tests.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            if script.closing.load(Ordering::Relaxed) {
                script.closed.notify_one();
            }
        });
    }
}

async fn answer(request: Request<Incoming>, script: Arc<Script>) -> Result<Response<Pieces>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let key = format!("{} {}", head.method, head.uri.path());
    let line = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    script.requests.lock().unwrap().push(line.trim_end().to_owned());
    let is_status = key == "GET /v1/status";
    let reply = {
        let mut replies = script.replies.lock().unwrap();
        match replies.get_mut(&key) {
            Some(list) if list.len() > 1 => list.pop_front().unwrap(),
            Some(list) => {
                // The last status was asked for a second time: everything scripted has been shown.
                if is_status && script.last_status_given.swap(true, Ordering::Relaxed) {
                    script.status_used_up.send_replace(true);
                }
                list[0].clone()
            }
            None => Reply::Json(404, String::new()),
        }
    };
    if !is_status {
        script.arrived.send_modify(|seen| *seen += 1);
    }
    Ok(play(reply, &script).await)
}

async fn play(reply: Reply, script: &Arc<Script>) -> Response<Pieces> {
    match reply {
        Reply::Json(status, text) => respond(status, "application/json", vec![text], false),
        Reply::Stream(pieces) => respond(200, "text/event-stream", pieces, false),
        Reply::BrokenStream(pieces) => respond(200, "text/event-stream", pieces, true),
        Reply::Never => std::future::pending().await,
        Reply::Held(reply) => {
            script.status_used_up.subscribe().wait_for(|used_up| *used_up).await.unwrap();
            Box::pin(play(*reply, script)).await
        }
        Reply::Last(reply) => {
            script.closing.store(true, Ordering::Relaxed);
            Box::pin(play(*reply, script)).await
        }
    }
}

fn respond(status: u16, kind: &str, pieces: Vec<String>, broken: bool) -> Response<Pieces> {
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .body(Pieces { pieces, broken, flushed: false })
        .unwrap()
}

/// A body that comes in pieces and may break off.
struct Pieces {
    pieces: VecDeque<Bytes>,
    broken: bool,
    flushed: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.broken && self.flushed => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            None if self.broken => {
                // A pause in which the server writes out what it has; an error right away would drop it.
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}
