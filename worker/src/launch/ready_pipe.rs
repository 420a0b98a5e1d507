//! The pipe on which a spawned worker says "ready".

use std::io::{self, Write};

/// Writes the one newline to the inherited descriptor and closes it.
///
/// The reader may be gone: a daemon that died while the model was loading. Then nobody waits, and that is no error: the
/// next daemon reads the phase.
pub(super) fn announce(fd: i32) -> io::Result<()> {
    // Opening the descriptor by its path needs no unsafe ownership claim.
    let written = std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{fd}"));
    let written = written.and_then(|mut pipe| pipe.write_all(b"\n"));
    // Closing is what tells the reader that nothing more will come.
    let closed = nix::unistd::close(fd).map_err(io::Error::from);
    match written {
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe) => closed,
        Err(error) => Err(error),
        Ok(()) => closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::IntoRawFd;

    #[test]
    fn one_newline_and_the_end() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        announce(writer.into_raw_fd()).expect("written");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the end of the pipe");
        assert_eq!(text, "\n");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        announce(writer.into_raw_fd()).expect("ignored");
    }
}
