//! The least that a proxy in Rust can be: hyper's server in front of hyper's client, one upstream connection per client.
//!
//! Owns nothing of what a gateway is for; it is here to tell what HTTP itself costs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Mutex;

/// `SOCKET PORT UPSTREAM`. Serves until it is killed, with as many threads as mlxsupd has.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [socket, port, upstream] = arguments else { return Err(io::Error::other("proxy takes SOCKET PORT UPSTREAM")) };
    let port: u16 = port.parse().map_err(io::Error::other)?;
    let upstream = Arc::new(PathBuf::from(upstream));
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let (unix, tcp) = (UnixListener::bind(socket)?, TcpListener::bind(("127.0.0.1", port)).await?);
        loop {
            let upstream = upstream.clone();
            tokio::select! {
                Ok((stream, _)) = unix.accept() => drop(tokio::spawn(converse(stream, upstream))),
                Ok((stream, _)) = tcp.accept() => {
                    stream.set_nodelay(true)?;
                    drop(tokio::spawn(converse(stream, upstream)));
                }
            }
        }
    })
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, upstream: Arc<PathBuf>) {
    let kept = Arc::new(Mutex::new(None));
    let service = service_fn(move |request| forward(request, upstream.clone(), kept.clone()));
    let _ = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(
    request: Request<Incoming>,
    upstream: Arc<PathBuf>,
    kept: Arc<Mutex<Option<SendRequest<Incoming>>>>,
) -> io::Result<Response<Incoming>> {
    let mut kept = kept.lock().await;
    let mut usable = kept.take();
    if let Some(sender) = &mut usable
        && sender.ready().await.is_err()
    {
        usable = None;
    }
    let mut sender = match usable {
        Some(sender) => sender,
        None => {
            let stream = UnixStream::connect(&*upstream).await?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            sender
        }
    };
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    *kept = Some(sender);
    Ok(response)
}
