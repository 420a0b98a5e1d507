//! Ctrl-C as something to wait for, so that what was shown can be finished.

use std::io;

use signal_hook::consts::SIGINT;
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// The interrupts of this process, from the moment it is made.
#[derive(Debug)]
pub struct Interrupts {
    bell: UnixStream,
}

impl Interrupts {
    /// Takes over Ctrl-C. Needs the runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn listen() -> io::Result<Self> {
        let (bell, striker) = std::os::unix::net::UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        pipe::register(SIGINT, striker)?;
        Ok(Self { bell: UnixStream::from_std(bell)? })
    }

    /// Returns once Ctrl-C was pressed. Cancel-safe: an interrupt not waited for is seen by the next call.
    pub async fn pressed(&mut self) {
        let mut byte = [0; 1];
        // The other end lives as long as the process, so an error can only be a read that came to nothing.
        if self.bell.read(&mut byte).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
