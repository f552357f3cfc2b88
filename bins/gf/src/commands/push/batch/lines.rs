//! Lines of a file, as batches of tasks.

use std::io::{BufRead, Read};

use anyhow::{Context, Result};
use goflow_core::limits::{MAX_BATCH, MAX_CONTENT_BYTES};

use crate::commands::push::body::Body;
use crate::failure::Failure;
use crate::payload;

/// A batch is not filled beyond this many bytes: with one more line the gateway still takes it.
const ENOUGH_BYTES: usize = 16 * 1024 * 1024;

/// Tasks to push together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The line of each, from 1.
    pub(super) lines: Vec<u64>,
    /// The body of the request.
    pub(super) body: Vec<u8>,
}

/// Reads batches to the end, or to the first line that is no payload.
#[derive(Debug)]
pub(super) struct Batches<R> {
    input: R,
    /// The task of every line but for its payload and its unique key.
    template: Body,
    content_type: Option<String>,
    /// What the unique keys start with.
    key: Option<String>,
    line: u64,
    failed: bool,
}

impl<R: BufRead> Batches<R> {
    pub(super) fn new(input: R, template: Body, content_type: Option<String>) -> Self {
        let key = template.unique.as_ref().map(|unique| unique.key.clone());
        Self {
            input,
            template,
            content_type,
            key,
            line: 0,
            failed: false,
        }
    }

    fn read_batch(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch {
            lines: Vec::new(),
            body: br#"{"tasks":["#.to_vec(),
        };
        while batch.lines.len() < MAX_BATCH && batch.body.len() < ENOUGH_BYTES {
            let Some(bytes) = self.read_line()? else {
                break;
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            self.template.payload = payload::of(bytes, self.content_type.as_deref())?;
            if let (Some(unique), Some(key)) = (&mut self.template.unique, &self.key) {
                unique.key = format!("{key}:{}", self.line);
            }
            if !batch.lines.is_empty() {
                batch.body.push(b',');
            }
            serde_json::to_writer(&mut batch.body, &self.template)?;
            batch.lines.push(self.line);
        }
        batch.body.extend_from_slice(b"]}");
        Ok((!batch.lines.is_empty()).then_some(batch))
    }

    /// The next line without its end.
    fn read_line(&mut self) -> Result<Option<Vec<u8>>> {
        self.line += 1;
        let mut bytes = Vec::new();
        // With room for its end.
        let most = MAX_CONTENT_BYTES + 2;
        let read = (&mut self.input)
            .take(most as u64)
            .read_until(b'\n', &mut bytes)
            .context("read it")?;
        if read == 0 {
            return Ok(None);
        }
        if bytes.pop_if(|last| *last == b'\n').is_some() {
            bytes.pop_if(|last| *last == b'\r');
        }
        if bytes.len() > MAX_CONTENT_BYTES {
            let says = format!("a payload has {MAX_CONTENT_BYTES} bytes at most");
            return Err(Failure::Usage(says).into());
        }
        Ok(Some(bytes))
    }
}

impl<R: BufRead> Iterator for Batches<R> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.read_batch().transpose()?;
        self.failed = batch.is_err();
        Some(batch.with_context(|| format!("line {}", self.line)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::args::{Cli, Command};

    fn batches(flags: &[&str], text: impl Into<Vec<u8>>) -> Vec<Result<Batch>> {
        let arguments = [&["gf", "push", "t", "--batch", "-"], flags].concat();
        let Command::Push(push) = Cli::parse_from(arguments).command else {
            panic!("not a push")
        };
        let content_type = push.content_type.clone();
        let null = payload::of(b"null".to_vec(), None).unwrap();
        let input = std::io::Cursor::new(text.into());
        Batches::new(input, Body::new(*push, null), content_type).collect()
    }

    fn tasks(batch: &Batch) -> Value {
        serde_json::from_slice::<Value>(&batch.body).unwrap()["tasks"].clone()
    }

    #[test]
    fn a_line_is_a_task() {
        let all = batches(
            &["--unique", "k", "--queue", "q"],
            "{\"a\": 1}\n\n \n2\r\n\"3\"",
        );
        let [Ok(batch)] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(batch.lines, [1, 4, 5]);
        let unique = |key: &str| json!({"key": key, "on_conflict": "existing"});
        assert_eq!(
            tasks(batch),
            json!([
                {"type": "t", "payload": {"a": 1}, "queue": "q", "unique": unique("k:1")},
                {"type": "t", "payload": 2, "queue": "q", "unique": unique("k:4")},
                {"type": "t", "payload": "3", "queue": "q", "unique": unique("k:5")},
            ])
        );
        assert!(batches(&[], "").is_empty() && batches(&[], "\n\n").is_empty());
        let all = batches(&["--content-type", "text/plain"], " a \"b\"\r\n");
        assert_eq!(tasks(all[0].as_ref().unwrap())[0]["payload"], " a \"b\"");
    }

    #[test]
    fn batches_are_bounded() {
        let lengths = |all: Vec<Result<Batch>>| -> Vec<_> {
            all.into_iter()
                .map(|batch| batch.unwrap().lines.len())
                .collect()
        };
        assert_eq!(
            lengths(batches(&[], "1\n".repeat(2_500))),
            [1_000, 1_000, 500]
        );
        assert_eq!(lengths(batches(&[], "1\n".repeat(1_000))), [1_000]);
        // Escaped, each byte of these has six.
        let line = format!("{}\n", "\u{1}".repeat(MAX_CONTENT_BYTES));
        let all = batches(&["--content-type", "text/plain"], line.repeat(5));
        assert!(all[0].as_ref().unwrap().body.len() < 34 * 1024 * 1024);
        assert_eq!(lengths(all), [4, 1]);
    }

    #[test]
    fn a_bad_line_is_named_and_ends_it() {
        let text = format!("{}not json\n3\n", "1\n".repeat(1_004));
        let long = format!("1\n{}\n", "x".repeat(MAX_CONTENT_BYTES + 1));
        for (text, good, line) in [
            (text.into_bytes(), 1, "line 1005: the payload is not JSON"),
            (long.into_bytes(), 0, "line 2: a payload has 921600 bytes"),
            (b"\xff\n".to_vec(), 0, "line 1: the payload is not JSON"),
        ] {
            let all = batches(&[], text);
            assert_eq!(all.len(), good + 1);
            assert!(all[..good].iter().all(Result::is_ok));
            let error = all[good].as_ref().unwrap_err();
            let said = format!("{error:#}");
            assert!(said.starts_with(line), "{said}");
            assert!(matches!(error.downcast_ref(), Some(Failure::Usage(_))));
        }
    }
}
