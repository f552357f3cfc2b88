//! Payloads as the command line gives them.

use std::io::Read;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::{RawValue, to_raw_value};

use crate::failure::Failure;

/// A payload as the gateway wants it: JSON byte for byte, text as a string, anything else as base64.
///
/// # Errors
/// A file that cannot be read, and bytes that are not what their content type says.
pub(crate) fn read(argument: &str, content_type: Option<&str>) -> Result<Box<RawValue>> {
    let bytes = match argument.strip_prefix('@') {
        _ if argument == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .context("read the payload from stdin")?;
            bytes
        }
        Some(path) => std::fs::read(path)
            .map_err(|error| Failure::Usage(format!("read the payload from {path}: {error}")))?,
        None => argument.as_bytes().to_vec(),
    };
    of(bytes, content_type)
}

/// The payload that these bytes are.
///
/// # Errors
/// [`Failure::Usage`] when they are not what their content type says.
pub(crate) fn of(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Box<RawValue>> {
    match content_type {
        None => json(bytes),
        Some(kind) if kind == "application/json" || kind.ends_with("+json") => json(bytes),
        Some(kind) if kind.starts_with("text/") => {
            let text = String::from_utf8(bytes).map_err(|_| {
                Failure::Usage(format!("the payload is not {kind}: it is not UTF-8"))
            })?;
            Ok(to_raw_value(&text)?)
        }
        Some(_) => Ok(to_raw_value(&BASE64_STANDARD.encode(bytes))?),
    }
}

fn json(bytes: Vec<u8>) -> Result<Box<RawValue>> {
    let text = String::from_utf8(bytes).map_err(|_| not_json("it is not UTF-8"))?;
    Ok(serde_json::from_str(&text).map_err(not_json)?)
}

fn not_json(why: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!(
        "the payload is not JSON: {why}; a text needs its quotes, '\"like this\"', or --content-type text/plain"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_as_it_is() {
        assert_eq!(read("{ \"N\":1.0 }", None).unwrap().get(), "{ \"N\":1.0 }");
        assert_eq!(
            read("a \"b\"", Some("text/plain")).unwrap().get(),
            r#""a \"b\"""#
        );
        assert_eq!(read("hi", Some("image/png")).unwrap().get(), "\"aGk=\"");
    }

    #[test]
    fn what_is_not_json_is_a_mistake_in_the_call() {
        for (payload, content_type) in [
            ("hello", None),
            ("", None),
            ("{", Some("application/json")),
            ("@/nonexistent/file", None),
        ] {
            let error = read(payload, content_type).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Failure::Usage(_))),
                "{payload}: {error:#}"
            );
        }
    }
}
