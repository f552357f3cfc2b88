//! Names of queues, task types and namespaces: one grammar, checked once, at the edge.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A text that is not a name: names match `[A-Za-z0-9_-]{1,64}`.
///
/// The grammar keeps a name a single subject token in NATS, a single path segment in HTTP and a plain
/// word in a shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not a name: use 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 _ -")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
}

/// A text that is read: borrowed from what it is read from where that can be.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

fn check(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(legal) {
        return Ok(());
    }
    let shown = text.chars().take(MAX_NAME_BYTES + 1).collect();
    Err(InvalidName { kind, text: shown })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "Text<'_>")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks `text` against the grammar of names.
            ///
            /// # Errors
            /// [`InvalidName`] when it does not match `[A-Za-z0-9_-]{1,64}`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                check($kind, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl TryFrom<Text<'_>> for $name {
            type Error = InvalidName;
            fn try_from(Text(text): Text<'_>) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    };
}

name!(
    /// The name of a queue: the unit of backlog, limit and purge.
    QueueName,
    "queue"
);
name!(
    /// The type of a task: it decides which handler runs it.
    TaskType,
    "task type"
);
name!(
    /// A namespace: keeps the tasks of tenants apart. Only `default` is in use so far.
    Namespace,
    "namespace"
);

const DEFAULT: SmolStr = SmolStr::new_static("default");

impl Default for QueueName {
    /// The queue named `default`.
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl Default for Namespace {
    /// The namespace named `default`.
    fn default() -> Self {
        Self(DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "A-b_9", &"x".repeat(64)] {
            assert_eq!(QueueName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a.b",
            "a*",
            ">",
            "a b",
            "ä",
            "a\0",
            "a'--",
            &"x".repeat(65),
        ] {
            assert!(TaskType::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_bad_name_is_refused_when_decoded() {
        assert!(serde_json::from_str::<QueueName>("\"a.b\"").is_err());
    }
}
