//! What the tasks carry.

use bytes::{BufMut, Bytes, BytesMut};
use goflow::{Content, Task};

/// The type of all tasks here.
pub(crate) const TASK_TYPE: &str = "echo";

/// The type of those that are run before the clock starts.
pub(crate) const WARM_UP_TYPE: &str = "warm-up";

/// Digits of the number that tells a payload from all others.
const NUMBER: usize = 8;

/// Payloads of one size. Each begins with its number in digits, so that a result tells which task it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Payload {
    bytes: usize,
}

impl Payload {
    /// Payloads of this many bytes, 8 at least.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: bytes.max(NUMBER),
        }
    }

    /// Its size in bytes.
    pub fn len(self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it: never, for its number is.
    pub fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// The payload with this number.
    pub fn numbered(self, number: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.bytes);
        bytes.put_slice(format!("{number:0NUMBER$}").as_bytes());
        bytes.put_bytes(b'p', self.bytes - NUMBER);
        bytes.freeze()
    }

    /// The number of a payload, if it is whole.
    pub fn number(self, bytes: &[u8]) -> Option<usize> {
        let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
        let whole = bytes.len() == self.bytes && rest.iter().all(|byte| *byte == b'p');
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        whole.then_some(number)
    }

    /// The task with this number.
    ///
    /// # Errors
    /// None for the type that is used here.
    pub fn task(self, number: usize) -> anyhow::Result<Task> {
        let payload = Content::binary(self.numbered(number));
        Ok(Task::new(TASK_TYPE, payload)?)
    }

    /// A task that is run before the clock starts.
    pub(crate) fn warm_up(self) -> anyhow::Result<Task> {
        Ok(Task::new(WARM_UP_TYPE, Content::binary(self.numbered(0)))?)
    }

    /// SQL that counts, of a table with a column `result`, the rows and the right results of distinct numbers below
    /// `tasks`.
    pub(crate) fn count_sql(self, table: &str, tasks: usize) -> String {
        // Not written out: a command has no room for that.
        let rest = self.bytes - NUMBER;
        format!(
            "select count(*), count(distinct substring(result for {NUMBER})) filter (where \
                result = substring(result for {NUMBER}) || convert_to(repeat('p', {rest}), 'UTF8') \
                and substring(result for {NUMBER}) < '{tasks:0NUMBER$}'::bytea) from {table}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_knows_its_number() {
        let payload = Payload::new(100);
        assert_eq!(payload.number(&payload.numbered(77)), Some(77));
        assert_eq!(payload.number(b"short"), None);
        assert_eq!(payload.number(&[0; 100]), None);
        assert_eq!(Payload::new(0).len(), 8);
    }
}
