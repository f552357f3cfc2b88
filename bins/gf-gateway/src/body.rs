//! Request bodies: never larger than allowed, never slower than bearable.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

use crate::problem::{Code, Problem};

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Its size in bytes at most.
    pub bytes: usize,
    /// How long it may take.
    pub time: Duration,
    /// The longest wait for its next piece.
    pub pause: Duration,
}

impl Bounds {
    /// For a single push: 900 KiB of payload, which base64 makes a third larger, and its options.
    pub(crate) const SINGLE: Self = Self {
        bytes: 1_363_148,
        time: Duration::from_secs(10),
        pause: Duration::from_secs(10),
    };

    /// For what says in a few words what to do.
    pub(crate) const ORDER: Self = Self {
        bytes: 64 * 1024,
        time: Duration::from_secs(10),
        pause: Duration::from_secs(10),
    };

    /// For a batch: 32 MiB of payloads and what JSON adds to them.
    pub(crate) const BATCH: Self = Self {
        bytes: 34 * 1024 * 1024,
        time: Duration::from_secs(60),
        pause: Duration::from_secs(10),
    };

    /// For a conversation with server reflection.
    pub(crate) const CONVERSATION: Self = Self {
        bytes: 1024 * 1024,
        time: Duration::from_secs(600),
        pause: Duration::from_secs(60),
    };
}

/// A body that ends with an error when it leaves its bounds.
#[derive(Debug)]
pub(crate) struct Bounded<B> {
    inner: B,
    bounds: Bounds,
    left: usize,
    end: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<B> Bounded<B> {
    pub(crate) fn new(inner: B, bounds: Bounds) -> Self {
        let now = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(
            now + bounds.pause.min(bounds.time),
        ));
        Self {
            inner,
            bounds,
            left: bounds.bytes,
            end: now + bounds.time,
            alarm,
        }
    }
}

impl<B: http_body::Body<Data = Bytes, Error = axum::Error> + Unpin> http_body::Body for Bounded<B> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                if length > this.left {
                    return Poll::Ready(Some(Err(Broken::TooLarge(this.bounds.bytes))));
                }
                this.left -= length;
                this.alarm
                    .as_mut()
                    .reset(this.end.min(Instant::now() + this.bounds.pause));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(error = %error, "request body broke off");
                Poll::Ready(Some(Err(Broken::Off)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match this.alarm.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Broken::TooSlow))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why a body did not arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Broken {
    /// It has more bytes than this.
    TooLarge(usize),
    /// It took too long.
    TooSlow,
    /// The client went away.
    Off,
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLarge(limit) => Self::new(
                Code::TooLarge,
                format!("the body is larger than {limit} bytes"),
            ),
            Broken::TooSlow => Self::new(Code::SlowBody, "the body did not arrive in time"),
            Broken::Off => Self::new(Code::InvalidBody, "the body broke off"),
        }
    }
}

/// How much of a body that is too large is heard out, and for how long: a client that is cut off while it talks
/// does not read why.
const LINGER: (usize, Duration) = (64 * 1024 * 1024, Duration::from_secs(2));

/// Reads a whole body.
pub(crate) async fn read(mut body: Body, bounds: Bounds) -> Result<Bytes, Problem> {
    let announced = http_body::Body::size_hint(&body).lower() > bounds.bytes as u64;
    let read = match announced {
        true => Err(Broken::TooLarge(bounds.bytes)),
        false => Bounded::new(&mut body, bounds)
            .collect()
            .await
            .map(|whole| whole.to_bytes()),
    };
    if let Err(Broken::TooLarge(_)) = read {
        let _ = tokio::time::timeout(LINGER.1, discard(body, LINGER.0)).await;
    }
    Ok(read?)
}

async fn discard(mut body: Body, most: usize) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Buf::remaining);
        if seen > most {
            return;
        }
    }
}

/// A body with bounds whose breach tonic tells the client as it is.
pub(crate) fn for_grpc(body: Body, bounds: Bounds) -> Body {
    Body::new(
        Bounded::new(body, bounds).map_err(|broken| tonic::Status::from(Problem::from(broken))),
    )
}
