//! How to connect, and what streams may hold.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to connect to NATS, and what the streams made there may hold.
///
/// ```
/// let options = goflow_nats::Options::new("nats://127.0.0.1:4222");
/// // More than the defaults: a cluster of three that keeps three copies of everything.
/// let options = goflow_nats::Options {
///     replicas: 3,
///     ..goflow_nats::Options::new("nats://a:4222,nats://b:4222,nats://c:4222")
/// };
/// assert_eq!(options.servers.len(), 3);
/// ```
#[derive(Clone)]
pub struct Options {
    /// The servers, each `nats://` or `tls://`, with `user:password@` or `token@` if need be. Any one
    /// that answers will do. Default: `nats://127.0.0.1:4222`.
    pub servers: Vec<String>,
    /// The name by which the server lists the connection. Default: `goflow`.
    pub name: String,
    /// A credentials file (JWT and key). Default: none.
    pub credentials: Option<PathBuf>,
    /// The seed of an nkey. Default: none.
    pub nkey: Option<String>,
    /// A token. Default: none, or the one in the URL.
    pub token: Option<String>,
    /// A user and a password. Default: none, or those in the URL.
    pub user: Option<(String, String)>,
    /// Certificates of the authorities to trust besides the usual ones, PEM. Default: none.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key, PEM. Default: none.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether to refuse a connection without TLS. Default: no.
    pub require_tls: bool,
    /// Whether the server expects TLS before its greeting. Default: no.
    pub tls_first: bool,
    /// The first token of reply subjects, for servers that restrict them. Default: `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// The JetStream domain. Default: the one of the server connected to.
    pub domain: Option<String>,
    /// Copies of each stream: 1, 3 or 5. Default: 1. Zero means 1.
    pub replicas: usize,
    /// Most messages in one queue, waiting and leased together. Default: 1,000,000. Zero means no limit.
    pub max_queue_messages: u64,
    /// Most bytes in one queue. Default: no limit (zero).
    pub max_queue_bytes: u64,
    /// Most messages of outcomes, all lasting routes together; workers wait when it is reached. Default: 1,000,000.
    /// Zero means no limit.
    pub max_result_messages: u64,
    /// How long the first connection may take. Default: 4 s.
    pub connect_timeout: Duration,
    /// How long a request to make or look at something may take. Default: 5 s.
    pub request_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            name: "goflow".into(),
            credentials: None,
            nkey: None,
            token: None,
            user: None,
            ca: None,
            client_certificate: None,
            require_tls: false,
            tls_first: false,
            inbox_prefix: None,
            domain: None,
            replicas: 1,
            max_queue_messages: 1_000_000,
            max_queue_bytes: 0,
            max_result_messages: 1_000_000,
            connect_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// The defaults, with the servers at these URLs: one, or several separated by commas.
    pub fn new(urls: &str) -> Self {
        let servers = urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        Self {
            servers: servers.map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// The servers as people may see them: without what is secret.
    pub(crate) fn shown_servers(&self) -> String {
        let shown = self
            .servers
            .iter()
            .map(|server| match server.split_once("://") {
                Some((scheme, rest)) => {
                    format!(
                        "{scheme}://{}",
                        rest.rsplit_once('@').map_or(rest, |(_, address)| address)
                    )
                }
                None => server
                    .rsplit_once('@')
                    .map_or(server.as_str(), |(_, address)| address)
                    .to_owned(),
            });
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("servers", &self.shown_servers())
            .field("credentials", &self.credentials)
            .field("domain", &self.domain)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_may_be_several() {
        assert_eq!(Options::new("nats://a:4222").servers, ["nats://a:4222"]);
        assert_eq!(
            Options::new(" nats://a:1, tls://b:2,").servers,
            ["nats://a:1", "tls://b:2"]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let servers = vec![
            "nats://me:secret@a:4222".into(),
            "secret@b".into(),
            "tls://c:1".into(),
        ];
        let options = Options {
            servers,
            token: Some("secret".into()),
            ..Default::default()
        };
        assert_eq!(options.shown_servers(), "nats://a:4222, b, tls://c:1");
        assert!(!format!("{options:?}").contains("secret"));
    }
}
