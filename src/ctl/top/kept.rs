//! One connection for question after question, made anew when the other side has ended it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};

use crate::ctl::connection::{ConnectionError, connect};

/// The connection, while there is one.
#[derive(Debug)]
pub struct Kept {
    socket: PathBuf,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Kept {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), sender: None }
    }

    /// Sends a request that may be sent twice, since a kept connection can end while it is on its way. The answer before it
    /// must have been read.
    ///
    /// # Errors
    /// When nobody listens, the connection ends before the answer's head, or all that takes longer than `limit`.
    pub async fn send_within(
        &mut self,
        limit: Duration,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ConnectionError> {
        // Taken out, so that a connection whose answer did not come in time is not used again.
        let kept = self.sender.take();
        let exchange = async {
            if let Some(mut sender) = kept
                && let Ok(response) = sender.send_request(request.clone()).await
            {
                return Ok((response, sender));
            }
            let mut sender = connect(&self.socket).await?;
            match sender.send_request(request).await {
                Ok(response) => Ok((response, sender)),
                Err(source) => Err(ConnectionError::Broken { socket: self.socket.clone(), source }),
            }
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(Ok((response, sender))) => {
                self.sender = Some(sender);
                Ok(response)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectionError::Silent { socket: self.socket.clone(), after: limit }),
        }
    }
}
