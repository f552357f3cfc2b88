//! The payload of a push.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::{Content, content};
use serde_json::value::RawValue;

use crate::json::task::is_text;
use crate::json::text;
use crate::problem::{Code, Problem};

/// The payload, its bytes exactly as they stand in the body.
pub(super) fn payload(
    raw: Option<&RawValue>,
    content_type: Option<String>,
) -> Result<Content, Problem> {
    let json = raw.map_or("null", RawValue::get);
    let content_type = content_type.unwrap_or_else(|| content::JSON.to_owned());
    let content = Content::new(Bytes::new(), content_type);
    if content.is_json() {
        check_depth(json)?;
        return Ok(Content {
            bytes: Bytes::copy_from_slice(json.as_bytes()),
            ..content
        });
    }
    let invalid = |detail| Problem::new(Code::Invalid, detail);
    let as_string = || serde_json::from_str::<String>(json).ok();
    if is_text(&content.content_type) {
        let text = as_string().ok_or_else(|| invalid("payload: text goes into a JSON string"))?;
        return Ok(Content {
            bytes: text.into(),
            ..content
        });
    }
    let decoded = as_string().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let bytes = decoded.ok_or_else(|| {
        invalid("payload: content that is neither JSON nor text goes into a string of base64")
    })?;
    Ok(Content {
        bytes: bytes.into(),
        ..content
    })
}

/// Refuses a payload that is too large, alone and in a batch alike.
pub(crate) fn check_size(payload: &Content) -> Result<(), Problem> {
    match payload.len() {
        0..=MAX_CONTENT_BYTES => Ok(()),
        bytes => Err(Problem::new(
            Code::TooLarge,
            format!("payload of {bytes} bytes, {MAX_CONTENT_BYTES} is the most"),
        )),
    }
}

/// Refuses JSON that is nested deeper than readers take.
pub(crate) fn check_depth(json: &str) -> Result<(), Problem> {
    if text::depth(json) > text::MAX_DEPTH {
        let detail = format!("payload: nested deeper than {} levels", text::MAX_DEPTH);
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_contents_travel_in_strings() {
        let raw: &RawValue = serde_json::from_str(r#""aGk\u003d""#).unwrap();
        let read = |raw, content_type: &str| payload(Some(raw), Some(content_type.to_owned()));
        assert_eq!(read(raw, "image/png").unwrap().bytes, "hi");
        assert_eq!(read(raw, "text/plain").unwrap().bytes, "aGk=");
        let raw: &RawValue = serde_json::from_str("[1]").unwrap();
        assert!(read(raw, "image/png").is_err());
        assert!(read(raw, "text/plain").is_err());
    }

    #[test]
    fn bytes_stay_as_they_are() {
        let json = r#"{ "N":10, "big": 12345678901234567890123.0e400,  "N":11 }"#;
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(payload(Some(raw), None).unwrap().bytes, json.as_bytes());
        assert_eq!(payload(None, None).unwrap().bytes, "null");
    }
}
