//! Texts that others sent, as they can be shown.

use std::borrow::Cow;

/// How much of a text is shown, in bytes.
const MOST: usize = 1024;

const LEFT_OUT: &str = " … ";

/// A text on one line and of 1 KiB at most: control characters are escaped, and of a longer text the middle is left
/// out.
pub fn one_line(text: &str) -> String {
    // Escaping can make what is short enough too long.
    shortened(&escaped(&shortened(text))).into_owned()
}

fn shortened(text: &str) -> Cow<'_, str> {
    const PART: usize = (MOST - LEFT_OUT.len()) / 2;
    if text.len() <= MOST {
        return text.into();
    }
    let front = text.floor_char_boundary(PART);
    let back = text.ceil_char_boundary(text.len() - PART);
    [&text[..front], LEFT_OUT, &text[back..]].concat().into()
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_the_line_or_goes_on_and_on() {
        assert_eq!(one_line("a \"ü\" b"), "a \"ü\" b");
        assert_eq!(
            one_line("a\nb\u{1b}[1m\0\u{7f}"),
            r"a\nb\u{1b}[1m\u{0}\u{7f}"
        );
        let long = format!("unknown {} at 7", "ü".repeat(1_000_000));
        let line = one_line(&long);
        assert!(line.starts_with("unknown ü") && line.ends_with("ü at 7"));
        assert_eq!(line.matches(LEFT_OUT).count(), 1);
        for text in [&long, &"\0".repeat(MOST)] {
            assert!(one_line(text).len() <= MOST);
        }
    }
}
