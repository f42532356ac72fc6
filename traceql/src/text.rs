//! How texts and durations are written, so that they are read back as what they were.

use std::fmt::{self, Write};

/// Units of durations, nanoseconds, large to small.
pub(crate) const UNITS: [(&str, i64); 10] = [
    ("y", 365 * 24 * 3_600_000_000_000),
    ("w", 7 * 24 * 3_600_000_000_000),
    ("d", 24 * 3_600_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// A duration as one number of the largest unit, up to hours, that leaves no fraction.
pub(crate) fn duration(nanos: i64) -> String {
    let units = UNITS.iter().filter(|(name, _)| !matches!(*name, "y" | "w" | "d" | "µs"));
    let (name, unit) = units.copied().find(|(_, unit)| nanos != 0 && nanos % unit == 0).unwrap_or(("s", UNITS[5].1));
    format!("{}{name}", nanos / unit)
}

/// A text in double quotes.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(out, "\\{char}")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                char if char.is_control() => write!(out, "\\u{:04x}", u32::from(char))?,
                char => out.write_char(char)?,
            }
        }
        out.write_char('"')
    }
}

/// Whether a character can stand in the name of an attribute without quotes.
pub(crate) fn is_name_char(char: char) -> bool {
    !char.is_whitespace() && !matches!(char, '{' | '}' | '(' | ')' | '=' | '~' | '!' | '<' | '>' | '&' | '|' | '^' | ',' | ';')
}

/// The name of an attribute, quoted where it has to be. In names, only `"` and `\` are escaped.
pub(crate) struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.0.chars().all(|char| is_name_char(char) && char != '"');
        if plain && !self.0.is_empty() && !self.0.starts_with(|char: char| char.is_ascii_digit()) {
            return out.write_str(self.0);
        }
        out.write_char('"')?;
        for char in self.0.chars() {
            if matches!(char, '"' | '\\') {
                out.write_char('\\')?;
            }
            out.write_char(char)?;
        }
        out.write_char('"')
    }
}
