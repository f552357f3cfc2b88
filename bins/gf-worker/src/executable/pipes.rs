//! What goes into a program and what comes out of it, in bounded memory.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tracing::debug;

/// More output than a result may have.
#[derive(Debug)]
pub(super) struct TooMuch;

/// Takes what comes out of a pipe.
pub(super) trait Sink {
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch>;
}

/// Keeps all, up to a limit.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Sink for Bounded {
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(TooMuch);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Keeps the end.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn into_text(self) -> String {
        let bytes = Vec::from(self.bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

impl Sink for Tail {
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(self.limit);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
        Ok(())
    }
}

/// Writes the payload and closes the pipe. A program need not read it.
pub(super) async fn feed(mut input: ChildStdin, payload: Bytes) -> Result<(), TooMuch> {
    if let Err(error) = input.write_all(&payload).await {
        debug!(%error, "handler did not read its payload");
    }
    Ok(())
}

/// Reads until the pipe is closed.
pub(super) async fn drain(
    mut output: impl AsyncRead + Unpin,
    sink: &mut impl Sink,
) -> Result<(), TooMuch> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => sink.take(&buffer[..read])?,
            Err(error) => {
                debug!(%error, "handler's output cannot be read");
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_kept() {
        let mut tail = Tail::new(4);
        for part in [&b"ab"[..], b"cd", b"e", b"", b"fghijk\n"] {
            tail.take(part).unwrap();
        }
        assert_eq!(tail.into_text(), "ijk");
    }

    #[test]
    fn output_is_limited() {
        let mut bounded = Bounded::new(4);
        bounded.take(b"abcd").unwrap();
        bounded.take(b"e").unwrap_err();
        assert_eq!(bounded.into_bytes(), b"abcd");
    }
}
