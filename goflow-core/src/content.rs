//! Content: opaque bytes with the type that says how to read them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
    #[serde(
        default = "binary",
        skip_serializing_if = "is_binary",
        with = "media_type"
    )]
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

fn binary() -> Cow<'static, str> {
    BINARY.into()
}

fn is_binary(content_type: &str) -> bool {
    content_type == BINARY
}

/// A content type as text, or as a number if goflow has a name for it: of a small task it would be the longest part. Bytes
/// that nobody described are left out.
mod media_type {
    use std::borrow::Cow;
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    /// A number stands for the same type for ever: add to the end, change nothing.
    const NUMBERED: [&str; 3] = [super::BINARY, super::JSON, super::TEXT];

    pub(super) fn serialize<S: Serializer>(content_type: &str, to: S) -> Result<S::Ok, S::Error> {
        match (0..).zip(NUMBERED).find(|(_, name)| *name == content_type) {
            Some((number, _)) => to.serialize_u8(number),
            None => to.serialize_str(content_type),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Cow<'static, str>, D::Error> {
        from.deserialize_any(MediaType)
    }

    struct MediaType;

    impl Visitor<'_> for MediaType {
        type Value = Cow<'static, str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a content type")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            let known = usize::try_from(number).ok().and_then(|at| NUMBERED.get(at));
            let known = known.map(|name| Cow::Borrowed(*name));
            known.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let known = NUMBERED.into_iter().find(|name| *name == text);
            Ok(known.map_or_else(|| text.to_owned().into(), Cow::Borrowed))
        }
    }
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

    #[test]
    fn content_types_read_as_they_are_written() {
        for (content_type, most) in [(BINARY, 10), (JSON, 25), (TEXT, 25), ("image/png", 40)] {
            let content = Content::new("x", content_type);
            let bytes = rmp_serde::to_vec_named(&content).unwrap();
            assert_eq!(rmp_serde::from_slice::<Content>(&bytes).unwrap(), content);
            assert!(bytes.len() <= most, "{content_type}: {} bytes", bytes.len());
        }
    }

    /// As text all of them may come, too; a number that nobody knows is an error.
    #[test]
    fn content_types_are_text_or_known_numbers() {
        let named =
            |content_type: &str| serde_json::json!({"bytes": [120], "content_type": content_type});
        for content_type in [BINARY, JSON, "image/png"] {
            let content: Content = serde_json::from_value(named(content_type)).unwrap();
            assert_eq!(content, Content::new("x", content_type.to_owned()));
        }
        let unknown = serde_json::json!({"bytes": [120], "content_type": 200});
        let unknown = serde_json::from_value::<Content>(unknown).unwrap_err();
        assert!(unknown.to_string().contains("200"), "{unknown}");
    }
}
