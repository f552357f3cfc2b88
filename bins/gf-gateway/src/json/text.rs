//! JSON as text: what must be known of it without ever writing it anew.

/// How deep a payload may be nested: what `serde_json` and most other readers take.
pub(crate) const MAX_DEPTH: usize = 128;

/// How deep valid JSON is nested. Raw values are skipped by a loop and not by recursion, so nothing else
/// would notice a payload that no handler can read.
pub(crate) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    outside_strings(json, |byte| match byte {
        b'{' | b'[' => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        b'}' | b']' => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest
}

/// Valid JSON on one line: without the white space between its parts, and otherwise the same bytes.
pub fn on_one_line(json: &str) -> String {
    let mut kept = Vec::with_capacity(json.len());
    let mut strings = Strings::default();
    for byte in json.bytes() {
        let inside = strings.step(byte);
        if inside || !byte.is_ascii_whitespace() {
            kept.push(byte);
        }
    }
    // Only ASCII was left out, so this is UTF-8 still.
    String::from_utf8(kept).unwrap_or_else(|_| json.to_owned())
}

fn outside_strings(json: &str, mut visit: impl FnMut(u8)) {
    let mut strings = Strings::default();
    for byte in json.bytes() {
        if !strings.step(byte) {
            visit(byte);
        }
    }
}

/// Knows whether a byte of JSON belongs to a string.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    fn step(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return self.inside;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.inside = false,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a":[{"b":"[[[\"[["}]}"#), 3);
        assert_eq!(depth(&("[".repeat(10_000) + &"]".repeat(10_000))), 10_000);
    }

    #[test]
    fn one_line_keeps_what_matters() {
        assert_eq!(
            on_one_line("{\n  \"a b\": [1.0, \"x\\\"  y\\\\\"],\r\n\t\"ü\": 1e400 }"),
            r#"{"a b":[1.0,"x\"  y\\"],"ü":1e400}"#
        );
    }
}
