//! What commands print: to stdout for programs and people, never in colour.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::macros::format_description;

/// Longest cell of a table, in characters.
const MAX_CELL: usize = 60;

/// Prints a line. A reader that went away has seen enough: that is no error.
///
/// # Errors
/// When stdout cannot be written to for any other reason.
pub(crate) fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("write to stdout")
        }
        _ => Ok(()),
    }
}

/// Prints JSON on one line.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(text: &str) -> Result<()> {
    line(&gf_gateway::on_one_line(text))
}

/// Columns of texts, aligned.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(heads: [&str; N]) -> Self {
        Self {
            rows: vec![heads.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| clean(&cell, MAX_CELL)).to_vec());
    }

    /// Prints it.
    ///
    /// # Errors
    /// As [`line`].
    pub(crate) fn print(&self) -> Result<()> {
        line(self.render().trim_end())
    }

    fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text that keeps to its line and does nothing to a terminal.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut clean: String = text
        .chars()
        .take(most)
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(most).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

/// A time to the second.
pub(crate) fn time(time: Option<OffsetDateTime>) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.and_then(|time| time.to_offset(time::UtcOffset::UTC).format(format).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["ID", "STATE", "ERROR"]);
        table.row(["1".to_owned(), "succeeded".to_owned(), String::new()]);
        table.row([
            "22".to_owned(),
            "failed".to_owned(),
            "no\n\u{1b}[31mway".to_owned(),
        ]);
        assert_eq!(
            table.render(),
            "ID  STATE      ERROR\n1   succeeded\n22  failed     no  [31mway\n"
        );
    }

    #[test]
    fn long_cells_are_cut() {
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
    }
}
