//! Durations on the command line.

use std::time::Duration;

use crate::line::one_line;

/// Reads a duration such as `30s`, `1m`, `250ms` or `1h 30m`; for clap's `value_parser`.
///
/// # Errors
/// What is wrong with the text, for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        one_line(&match text.parse::<f64>() {
            Ok(_) => {
                format!("a number needs its unit: {text}s for seconds, {text}ms for milliseconds")
            }
            Err(_) => format!("{error}; write 30s, 1m or 250ms"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_needed() {
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("30").unwrap_err().contains("30s"));
        assert!(duration("soon").unwrap_err().contains("write 30s"));
    }
}
