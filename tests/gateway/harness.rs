//! A gateway on a socket of its own, the driver's end of its handle, raw clients and a scripted worker.
//!
//! Everything waits on states; a test that waits for what never comes is ended by the test runner, not by a timer here.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mlxsup::config::Config;
use mlxsup::control::view::{State, Status};
use mlxsup::daemon::door::{Porter, door};
use mlxsup::daemon::handle::{Assignment, Directive, GatewayInput, Handle, Report, Submission};
use mlxsup::gateway::{Access, ClientListeners, GatewayContext, RequestRecord, serve};
use mlxsup::link::endpoint::Endpoint;
use mlxsup::supervisor::{Generation, Mono, QueuePlace};
use mlxsup::telemetry::Metrics;
use mlxsup_worker_api::Envelope;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::documents::{config, status};

/// Where every request of these tests stands while it waits.
const PLACE: QueuePlace = QueuePlace { ahead: 3, wait: Some(Duration::from_secs(20)) };

pub struct Gateway {
    pub dir: TempDir,
    pub inputs: mpsc::UnboundedReceiver<GatewayInput>,
    pub records: mpsc::UnboundedReceiver<RequestRecord>,
    pub status: watch::Sender<Arc<Status>>,
    pub access: watch::Sender<Arc<Access>>,
    /// Of the TCP listener. Nobody is let in there before `access` says so.
    pub address: SocketAddr,
    pub porter: Porter,
    pub served: JoinHandle<()>,
    _config: watch::Sender<Arc<Config>>,
}

/// A request as the driver sees it.
pub struct Submitted {
    pub submission: Submission,
    pub directives: mpsc::Sender<Directive>,
}

impl Gateway {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(change, nix::unistd::geteuid().as_raw())
    }

    pub fn start_as(change: impl FnOnce(&mut Config), owner_uid: u32) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config();
        change(&mut config);
        let (config_sender, config) = watch::channel(Arc::new(config));
        let (status, status_receiver) = watch::channel(Arc::new(status(State::Serving)));
        let (access, access_receiver) = watch::channel(Arc::new(Access::Closed));
        let metrics = Arc::new(Metrics::new(status_receiver.clone()));
        let counted = Arc::clone(&metrics);
        let (handle, inputs) = Handle::new(status_receiver);
        let (record_sender, records) = mpsc::unbounded_channel();
        let context = GatewayContext {
            handle,
            config,
            access: access_receiver,
            requests: Arc::new(move |record| {
                counted.count(record);
                drop(record_sender.send(record.clone()));
            }),
            metrics,
            mono: Arc::new(|| Mono(1_000)),
            owner_uid,
            max_connections: 64,
            started: 1_700_000_000,
        };
        let unix = UnixListener::bind(dir.path().join("client.sock")).expect("bound");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        tcp.set_nonblocking(true).expect("non-blocking");
        let address = tcp.local_addr().expect("an address");
        let tcp = vec![TcpListener::from_std(tcp).expect("a listener")];
        let (porter, doorway) = door();
        let served = tokio::spawn(serve(ClientListeners { unix, tcp }, Arc::new(context), doorway));
        Self { dir, inputs, records, status, access, address, porter, served, _config: config_sender }
    }

    pub async fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.dir.path().join("client.sock")).await.expect("connected");
        Client::new(stream)
    }

    /// A client on the TCP listener.
    pub async fn connect_tcp(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.expect("connected"))
    }

    /// A client that has sent a request.
    pub async fn post(&self, path: &str, headers: &str, body: &str) -> Client {
        let mut client = self.connect().await;
        client.post(path, headers, body).await;
        client
    }

    pub async fn get(&self, path: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        client.answer().await
    }

    /// The next submission; nothing else may come first.
    pub async fn submitted(&mut self) -> Submitted {
        match self.input().await {
            GatewayInput::Submit { submission, directives, .. } => Submitted { submission, directives },
            other => panic!("expected a submission, got {other:?}"),
        }
    }

    /// The next report; nothing else may come first.
    pub async fn report(&mut self) -> Report {
        match self.input().await {
            GatewayInput::Report { report, .. } => report,
            other => panic!("expected a report, got {other:?}"),
        }
    }

    /// The next input, positions answered on the way.
    async fn input(&mut self) -> GatewayInput {
        loop {
            match self.inputs.recv().await.expect("the gateway runs") {
                GatewayInput::Position { reply, .. } => drop(reply.send(Some(PLACE))),
                other => return other,
            }
        }
    }

    /// Reads the client's answer up to `text` while the driver answers questions about positions.
    pub async fn client_reads(&mut self, client: &mut Client, text: &str) -> String {
        loop {
            tokio::select! {
                read = client.until(text) => return read,
                input = self.inputs.recv() => match input.expect("the gateway runs") {
                    GatewayInput::Position { reply, .. } => drop(reply.send(Some(PLACE))),
                    other => panic!("unexpected {other:?}"),
                },
            }
        }
    }

    pub async fn record(&mut self) -> RequestRecord {
        self.records.recv().await.expect("the gateway runs")
    }

    pub fn worker(&self, generation: u64) -> ScriptedWorker {
        let socket = self.dir.path().join(format!("worker-{generation}.sock"));
        let listener = UnixListener::bind(&socket).expect("bound");
        ScriptedWorker { generation, socket, listener }
    }
}

impl Submitted {
    pub async fn assign(&self, generation: u64, socket: PathBuf) {
        let assignment =
            Assignment { generation: Generation(generation), endpoint: Endpoint::Unix(socket), foreign: None };
        self.directives.send(Directive::Assigned(Box::new(assignment))).await.expect("the session lives");
    }

    /// Assigns and waits for the envelope.
    pub async fn assign_to(&self, worker: &ScriptedWorker) -> Link {
        self.assign(worker.generation, worker.socket.clone()).await;
        worker.accept().await
    }
}

/// A worker whose every byte the test writes.
pub struct ScriptedWorker {
    pub generation: u64,
    pub socket: PathBuf,
    listener: UnixListener,
}

/// One request inside a scripted worker. Dropping it is the worker's death.
pub struct Link {
    stream: UnixStream,
    pub path: String,
    pub envelope: Envelope,
}

impl ScriptedWorker {
    pub async fn accept(&self) -> Link {
        let (stream, _) = self.listener.accept().await.expect("accepted");
        Link::read(stream).await
    }

    /// True when a connection waits to be accepted.
    pub fn is_called(&self) -> bool {
        let mut listener = [nix::poll::PollFd::new(self.listener.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut listener, nix::poll::PollTimeout::ZERO).expect("polled") > 0
    }
}

impl Link {
    async fn read(mut stream: UnixStream) -> Self {
        let mut buffer = Vec::new();
        let head = read_until(&mut stream, &mut buffer, b"\r\n\r\n").await.expect("a head");
        let head = String::from_utf8(head).expect("text");
        let length = header(&head, "content-length").expect("a length").parse().expect("a number");
        while buffer.len() < length {
            assert!(stream.read_buf(&mut buffer).await.expect("read") > 0, "the envelope was cut off");
        }
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        Self { stream, path, envelope: serde_json::from_slice(&buffer).expect("an envelope") }
    }

    /// The next request on the same connection.
    pub async fn next(self) -> Self {
        Self::read(self.stream).await
    }

    /// Begins the event stream.
    pub async fn open(&mut self) {
        self.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// Bytes of the event stream, as one HTTP chunk.
    pub async fn say(&mut self, text: &str) {
        self.raw(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// A chat token: recorded id `id`, text `text`.
    pub async fn token(&mut self, tokens: u32, id: u32, text: &str) {
        self.say(&format!("id: 0:{tokens}:{id}\ndata: {}\n\n", chunk(text))).await;
    }

    pub async fn end(&mut self) {
        self.say("event: end\n\n").await;
        self.raw("0\r\n\r\n").await;
    }

    pub async fn raw(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.expect("the daemon listens");
    }

    /// Writes as much as the daemon takes before it stops reading; answers with the number of bytes.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        self.stream.try_write(bytes).unwrap_or(0)
    }

    pub async fn writable(&self) {
        self.stream.writable().await.expect("writable");
    }

    /// Waits until the daemon closes the connection.
    pub async fn closed(mut self) {
        let mut byte = [0];
        // A connection closed with unread bytes reads as reset.
        assert_eq!(self.stream.read(&mut byte).await.unwrap_or(0), 0, "the daemon sent more");
    }
}

/// One chunk of a chat stream.
pub fn chunk(text: &str) -> String {
    format!("{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}")
}

pub const FINISH: &str = "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}";

/// A client that sees every byte.
pub struct Client<S = UnixStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// False when a chunked answer lacks its final chunk.
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().expect("a code").to_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.expect("sent");
    }

    /// Sends what the daemon takes; it may close before it has read everything.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn post(&mut self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        self.send(&format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")).await;
    }

    /// Reads raw bytes up to and including `text`. Cancel-safe.
    pub async fn until(&mut self, text: &str) -> String {
        let read = read_until(&mut self.stream, &mut self.buffer, text.as_bytes()).await;
        String::from_utf8(read.unwrap_or_else(|| panic!("the answer ended before {text:?}"))).expect("text")
    }

    /// Reads a whole answer; the connection stays usable where HTTP allows it.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// `None` when the connection ends before the answer's head.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head = read_until(&mut self.stream, &mut self.buffer, b"\r\n\r\n").await?;
        Some(self.rest_of(String::from_utf8(head).expect("text")).await)
    }

    async fn rest_of(&mut self, head: String) -> Answer {
        let status = head[9..12].parse().expect("a status");
        if let Some(length) = header(&head, "content-length") {
            let length: usize = length.parse().expect("a number");
            while self.buffer.len() < length {
                assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "cut off");
            }
            let body = self.buffer.drain(..length).collect();
            return Answer { status, head, body: String::from_utf8(body).expect("text"), complete: true };
        }
        let mut body = String::new();
        let complete = loop {
            let Some(size) = read_until(&mut self.stream, &mut self.buffer, b"\r\n").await else { break false };
            let size = String::from_utf8(size).expect("text");
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
            while self.buffer.len() < size + 2 {
                assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "cut off inside a chunk");
            }
            let data: Vec<u8> = self.buffer.drain(..size + 2).take(size).collect();
            body.push_str(&String::from_utf8(data).expect("text"));
            if size == 0 {
                break true;
            }
        };
        Answer { status, head, body, complete }
    }

    /// True once the daemon has closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0
    }
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, needle: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(start) = buffer.windows(needle.len()).position(|window| window == needle) {
            return Some(buffer.drain(..start + needle.len()).collect());
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The words of a stream, put together by a client that trusts every event.
pub fn words(body: &str) -> String {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .filter_map(|data| {
            let chunk: serde_json::Value = serde_json::from_str(data).expect("JSON");
            Some(chunk["choices"].get(0)?["delta"]["content"].as_str()?.to_owned())
        })
        .collect()
}
