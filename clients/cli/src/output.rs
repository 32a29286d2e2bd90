//! What goes to standard output: results, and nothing else.

use std::io::{self, Write};

use serde::Serialize;

use crate::Error;

/// Writes `text`, what a terminal would obey as escapes. A reader that has gone away (`easel packages | head -1`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let text = visible(text);
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

/// Writes `value` as JSON for people and programs.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Whether a terminal would obey the letter instead of showing it: controls (ESC and C1 too), and what turns the direction of writing.
pub(crate) fn is_control(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns
}

/// Lines with such letters written as JSON writes them.
pub(crate) fn visible(text: &str) -> String {
    let letter = |letter: char| match is_control(letter) && letter != '\n' {
        true => format!("\\u{:04x}", u32::from(letter)),
        false => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

/// Columns of equal width, the last one left as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How many of a thing: "1 picture", "2 pictures".
pub(crate) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Words that the model was not taught, each with the nearest that was, if there is one.
pub(crate) fn untaught(words: &[String], nearest: &[String]) -> String {
    let nearest = nearest.iter().map(String::as_str).chain(std::iter::repeat(""));
    let told = |(word, nearest): (&String, &str)| match nearest {
        "" => word.clone(),
        nearest => format!("{word} (did you mean {nearest}?)"),
    };
    let told: Vec<String> = words.iter().zip(nearest).map(told).collect();
    format!("the model was not taught: {}", told.join(", "))
}

/// Bytes for people: "1.5 GiB".
pub(crate) fn bytes(bytes: u64) -> String {
    let (mut value, mut units) = (bytes as f64, ["B", "KiB", "MiB", "GiB"].iter());
    let mut unit = units.next();
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1024.0, Some(next));
    }
    let digits = usize::from(bytes >= 1024);
    format!("{value:.digits$} {}", unit.expect("there is a first unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a     b\nlong  c\n");
    }

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(visible("é\u{1b}[2J\n\u{202e}\u{9b}"), "é\\u001b[2J\n\\u202e\\u009b");
    }

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(5 << 40), "5120.0 GiB");
    }
}
