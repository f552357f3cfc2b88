//! The only place that knows what the driver's errors mean to the port.

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{ConnectErrorKind, SubscribeError};
use goflow_core::broker::Error;
use serde::Deserialize;

/// What JetStream answers when it refuses a request.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{description} (code {code}, error code {err_code})")]
pub(crate) struct ApiError {
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl ApiError {
    const CONSUMER_NOT_FOUND: u32 = 10014;
    const INSUFFICIENT_RESOURCES: u32 = 10023;
    const NOT_ENABLED_FOR_ACCOUNT: u32 = 10039;
    const MESSAGE_EXCEEDS_MAXIMUM: u32 = 10054;
    const STREAM_NAME_IN_USE: u32 = 10058;
    const STREAM_NOT_FOUND: u32 = 10059;
    /// The message could not be stored: the stream has as many messages or bytes as it may.
    const STREAM_STORE_FAILED: u32 = 10077;
    const NOT_ENABLED: u32 = 10076;

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self.err_code,
            Self::CONSUMER_NOT_FOUND | Self::STREAM_NOT_FOUND
        )
    }

    /// Someone else made the stream a moment ago, with a configuration of their own.
    pub(crate) fn is_lost_race(&self) -> bool {
        self.err_code == Self::STREAM_NAME_IN_USE
    }

    pub(crate) fn is_no_jetstream(&self) -> bool {
        matches!(
            self.err_code,
            Self::NOT_ENABLED | Self::NOT_ENABLED_FOR_ACCOUNT
        )
    }

    /// As an error of the port. `channel` is what it is about.
    pub(crate) fn translate(self, operation: &'static str, channel: &str) -> Error {
        match self.err_code {
            Self::STREAM_STORE_FAILED | Self::INSUFFICIENT_RESOURCES => Error::Full {
                channel: channel.to_owned(),
            },
            _ if self.is_not_found() => Error::NoChannel {
                channel: channel.to_owned(),
            },
            // The port has no number to go with it: the limit is the stream's, set by an operator.
            Self::MESSAGE_EXCEEDS_MAXIMUM => Error::Refused {
                reason: self.to_string(),
            },
            _ if self.code >= 500 => Error::unavailable(operation, self),
            _ => Error::Refused {
                reason: format!("{operation}: {self}"),
            },
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nobody is there to answer: there is no such stream, consumer or JetStream.
    NoResponders,
    /// The message is too large, says the client.
    TooLarge,
    /// It may come another time.
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}

impl From<async_nats::client::RequestError> for NoAnswer {
    fn from(error: async_nats::client::RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::NoResponders => Self::NoResponders,
            RequestErrorKind::MaxPayloadExceeded => Self::TooLarge,
            _ => Self::Unavailable(Box::new(error)),
        }
    }
}

impl NoAnswer {
    pub(crate) fn timed_out() -> Self {
        Self::Unavailable("timed out".into())
    }

    /// As an error of the port, where nobody to answer means that the channel does not exist.
    pub(crate) fn translate(self, operation: &'static str, channel: &str) -> Error {
        match self {
            Self::NoResponders => Error::NoChannel {
                channel: channel.to_owned(),
            },
            Self::TooLarge => Error::Refused {
                reason: format!("{operation}: larger than the server's max_payload"),
            },
            Self::Unavailable(source) => Error::unavailable(operation, source),
        }
    }
}

/// A plain publish or subscription that did not reach the connection.
pub(crate) fn subscribe(operation: &'static str, error: SubscribeError) -> Error {
    Error::unavailable(operation, error)
}

/// A plain publish that did not reach the connection.
pub(crate) fn publish(operation: &'static str, error: async_nats::PublishError) -> Error {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Error::Refused {
            reason: format!("{operation}: larger than the server's max_payload"),
        },
        _ => Error::unavailable(operation, error),
    }
}

/// The first connection that did not come about, in one line for people. `servers` says where.
pub(crate) fn connect(servers: &str, error: &async_nats::ConnectError) -> Error {
    let refused = |reason: String| Error::Refused { reason };
    let source = std::error::Error::source(error).map(ToString::to_string);
    let detail = source.unwrap_or_else(|| error.kind().to_string());
    match error.kind() {
        ConnectErrorKind::ServerParse => {
            refused(format!("{servers} is not a NATS address: {detail}"))
        }
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            refused(format!(
                "NATS at {servers} does not let us in ({detail}): check user, token or credentials"
            ))
        }
        ConnectErrorKind::Tls => refused(format!("no TLS with NATS at {servers}: {detail}")),
        _ => unreachable(servers, &plain(&detail)),
    }
}

/// Nobody there.
pub(crate) fn unreachable(servers: &str, detail: &str) -> Error {
    let line =
        format!("cannot reach NATS at {servers}: {detail}; is it running? (nats-server -js)");
    Error::unavailable("connect", line)
}

/// An IO error in the words people use, without the number.
fn plain(detail: &str) -> String {
    let detail = detail.rsplit(": ").next().unwrap_or(detail);
    let text = detail.split(" (os error").next().unwrap_or(detail);
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + chars.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(code: u16, err_code: u32) -> Error {
        ApiError {
            code,
            err_code,
            description: "said so".into(),
        }
        .translate("submit", "images")
    }

    #[test]
    fn refusals_have_a_meaning() {
        assert!(matches!(api(503, 10077), Error::Full { channel } if channel == "images"));
        assert!(matches!(api(404, 10059), Error::NoChannel { .. }));
        assert!(matches!(api(404, 10014), Error::NoChannel { .. }));
        assert!(matches!(api(503, 10008), Error::Unavailable { .. }));
        assert!(matches!(api(400, 10025), Error::Refused { .. }));
    }

    #[test]
    fn io_errors_lose_their_number() {
        assert_eq!(
            plain("IO error: Connection refused (os error 111)"),
            "connection refused"
        );
    }
}
