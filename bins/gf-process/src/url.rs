//! The URLs that choose adapters, with their secrets kept out of sight.
//!
//! Reading one never fails: clap would print the text it could not read, password and all. What cannot be used
//! is refused by the adapters, in words of our own.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Which broker: `memory:`, or the servers of one NATS, `nats://…` or `tls://…`, parted by commas. `?replicas=3` behind
/// the last has a cluster keep three copies of everything (1, 3 or 5; default: 1).
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(String);

/// Which store: `memory:` or `postgres://…`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

/// What a [`BrokerUrl`] stands for.
#[derive(Debug)]
pub(crate) enum Broker {
    Memory,
    Nats {
        servers: Vec<String>,
        /// Copies of each stream.
        replicas: usize,
    },
}

/// What a [`StoreUrl`] stands for.
#[derive(Debug)]
pub(crate) enum Store {
    Memory,
    Postgres(String),
}

impl BrokerUrl {
    /// A broker of this process.
    pub fn memory() -> Self {
        Self(MEMORY.to_owned())
    }

    /// Whether the broker is one of this process.
    pub fn is_memory(&self) -> bool {
        is_memory(&self.0)
    }

    /// Whether some broker is meant, for `tests/fuzz`.
    #[doc(hidden)]
    pub fn is_known(&self) -> bool {
        self.kind().is_some()
    }

    pub(crate) fn kind(&self) -> Option<Broker> {
        if self.is_memory() {
            return Some(Broker::Memory);
        }
        let (servers, replicas) = match self.0.rsplit_once(REPLICAS) {
            Some((servers, replicas)) => (servers, replicas.parse().ok()?),
            None => (&*self.0, 1),
        };
        let servers: Vec<String> = servers
            .split(',')
            .map(|server| server.trim().to_owned())
            .collect();
        let all = servers
            .iter()
            .all(|server| has_host(server, &["nats", "tls"]));
        (all && matches!(replicas, 1 | 3 | 5)).then_some(Broker::Nats { servers, replicas })
    }
}

impl StoreUrl {
    /// A store of this process.
    pub fn memory() -> Self {
        Self(MEMORY.to_owned())
    }

    /// Whether the store is one of this process.
    pub fn is_memory(&self) -> bool {
        is_memory(&self.0)
    }

    /// Whether some store is meant, for `tests/fuzz`.
    #[doc(hidden)]
    pub fn is_known(&self) -> bool {
        self.kind().is_some()
    }

    pub(crate) fn kind(&self) -> Option<Store> {
        if self.is_memory() {
            return Some(Store::Memory);
        }
        has_host(&self.0, &["postgres", "postgresql"]).then(|| Store::Postgres(self.0.clone()))
    }
}

const MEMORY: &str = "memory:";
const REPLICAS: &str = "?replicas=";

fn is_memory(url: &str) -> bool {
    matches!(url, MEMORY | "memory" | "memory://")
}

fn has_host(url: &str, schemes: &[&str]) -> bool {
    url.split_once("://")
        .is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

/// A URL without user, password and parameters. Hides too much rather than too little, since the text may be
/// anything.
fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (before, parameters) = match rest.split_once('?') {
        // The sign may be part of a password, and so may be all that stands before it.
        Some((_, behind)) if behind.contains('@') => ("***", "?***"),
        Some((before, _)) => (before, "?***"),
        None => (rest, ""),
    };
    let shown = match before.rsplit_once('@') {
        Some((_, address)) => format!("***@{address}{parameters}"),
        None => format!("{before}{parameters}"),
    };
    if scheme.is_empty() {
        shown
    } else {
        format!("{scheme}://{shown}")
    }
}

macro_rules! secret_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(text: &str) -> Result<Self, Infallible> {
                Ok(Self(text.trim().to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&redact(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name))
                    .field(&redact(&self.0))
                    .finish()
            }
        }
    };
}

secret_text!(BrokerUrl);
secret_text!(StoreUrl);

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(text: &str) -> BrokerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown) in [
            ("nats://me:secret@a:4222", "nats://***@a:4222"),
            ("nats://secret@a", "nats://***@a"),
            (
                "nats://me:sec,ret@a:1,nats://me:secret@b:1",
                "nats://***@b:1",
            ),
            (
                "postgres://me:se@cr/et@db/goflow?sslmode=require&password=secret",
                "postgres://***@db/goflow?***",
            ),
            ("me:secret@a", "***@a"),
            ("nats://a?password=x@secret", "nats://***?***"),
            ("nats://me:sec?ret@a", "nats://***?***"),
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ] {
            assert_eq!(broker(url).to_string(), shown);
            assert!(!format!("{:?}", broker(url)).contains("secret"));
        }
    }

    #[test]
    fn schemes_choose() {
        assert!(matches!(broker("memory:").kind(), Some(Broker::Memory)));
        let two = broker("nats://a:1, tls://b:2").kind();
        assert!(
            matches!(two, Some(Broker::Nats { servers, replicas: 1 }) if servers == ["nats://a:1", "tls://b:2"])
        );
        let three = broker("nats://a:1,nats://b:2?replicas=3").kind();
        assert!(
            matches!(three, Some(Broker::Nats { servers, replicas: 3 }) if servers == ["nats://a:1", "nats://b:2"])
        );
        for replicas in [
            "nats://a?replicas=2",
            "nats://a?replicas=",
            "nats://a?replicas=3x",
        ] {
            assert!(broker(replicas).kind().is_none(), "{replicas}");
        }
        for unknown in ["redis://a", "nats://", "127.0.0.1:4222", "nats://a,b", ""] {
            assert!(broker(unknown).kind().is_none(), "{unknown}");
        }
        let store: StoreUrl = "postgresql://a/b".parse().unwrap();
        assert!(matches!(store.kind(), Some(Store::Postgres(_))));
    }
}
