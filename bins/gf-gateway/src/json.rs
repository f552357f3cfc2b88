//! The JSON of the HTTP surface: what comes in, and what goes out.

use serde::Deserialize;

use crate::problem::{Code, Problem};

pub(crate) mod bulk;
pub(crate) mod dead;
pub(crate) mod push;
pub(crate) mod span;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod text;

/// Reads a whole body, and says where in it a mistake is.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let wrong = |detail: String| Problem::new(Code::InvalidBody, detail);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        match error.path().to_string() {
            path if path == "." => wrong(error.inner().to_string()),
            path => wrong(format!("{path}: {}", error.inner())),
        }
    })?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    Ok(value)
}
