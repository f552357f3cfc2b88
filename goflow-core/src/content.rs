//! Content: opaque bytes with the type that says how to read them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::name::Text;

/// The content type of JSON.
pub const JSON: &str = "application/json";
/// The content type of UTF-8 text.
pub const TEXT: &str = "text/plain";
/// The content type of bytes nobody described.
pub const BINARY: &str = "application/octet-stream";

/// A payload or a result: bytes goflow never looks into, and their content type.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The bytes, exactly as they were given.
    pub bytes: Bytes,
    /// A media type, such as `application/json`.
    #[serde(deserialize_with = "content_type")]
    pub content_type: Cow<'static, str>,
}

impl Content {
    /// Bytes of any content type.
    pub fn new(bytes: impl Into<Bytes>, content_type: impl Into<Cow<'static, str>>) -> Self {
        Self {
            bytes: bytes.into(),
            content_type: content_type.into(),
        }
    }

    /// `application/octet-stream`.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::new(bytes, BINARY)
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// What `serde_json` says of a value that has no JSON form.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self::new(serde_json::to_vec(value)?, JSON))
    }

    /// Bytes of unknown form: valid JSON is JSON, else UTF-8 is text, else binary; nothing is JSON `null`.
    pub fn sniff(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Self::new(Bytes::from_static(b"null"), JSON);
        }
        let content_type = if serde_json::from_slice::<&serde_json::value::RawValue>(&bytes).is_ok()
        {
            JSON
        } else if std::str::from_utf8(&bytes).is_ok() {
            TEXT
        } else {
            BINARY
        };
        Self::new(bytes, content_type)
    }

    /// Whether the content type says JSON.
    pub fn is_json(&self) -> bool {
        self.content_type == JSON || self.content_type.ends_with("+json")
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// A content type as it came, without memory of its own if it is one of those that goflow names.
fn content_type<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'static, str>, D::Error> {
    let Text(text) = Text::deserialize(from)?;
    let known = [JSON, TEXT, BINARY].into_iter().find(|name| *name == text);
    Ok(known.map_or_else(|| text.into_owned().into(), Cow::Borrowed))
}

impl std::fmt::Debug for Content {
    /// Leaves the bytes out: payloads do not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Content({} bytes, {})",
            self.bytes.len(),
            self.content_type
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bytes_are_named() {
        assert_eq!(Content::sniff("{\"a\": 1}\n").content_type, JSON);
        assert_eq!(Content::sniff("hello").content_type, TEXT);
        assert_eq!(Content::sniff(&b"\xff\xfe"[..]).content_type, BINARY);
        assert_eq!(Content::sniff("").bytes, "null");
    }
}
