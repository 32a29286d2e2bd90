//! Enough letters for a caption and for numbers: 3 × 5 pixels each, all of them capitals.

use image::{Rgb, RgbImage};

/// Pixels of a letter's cell, the gap to the next one included.
const ADVANCE: u32 = 4;
/// Pixels of a letter's height.
pub(super) const HEIGHT: u32 = 5;

/// Rows from the top, three bits each, the leftmost pixel highest.
fn rows(letter: char) -> [u8; 5] {
    match letter.to_ascii_uppercase() {
        '0' => [0b111, 0b101, 0b101, 0b101, 0b111],
        '1' => [0b010, 0b110, 0b010, 0b010, 0b111],
        '2' => [0b111, 0b001, 0b111, 0b100, 0b111],
        '3' => [0b111, 0b001, 0b111, 0b001, 0b111],
        '4' => [0b101, 0b101, 0b111, 0b001, 0b001],
        '5' => [0b111, 0b100, 0b111, 0b001, 0b111],
        '6' => [0b111, 0b100, 0b111, 0b101, 0b111],
        '7' => [0b111, 0b001, 0b010, 0b010, 0b010],
        '8' => [0b111, 0b101, 0b111, 0b101, 0b111],
        '9' => [0b111, 0b101, 0b111, 0b001, 0b111],
        '.' => [0, 0, 0, 0, 0b010],
        '-' => [0, 0, 0b111, 0, 0],
        'A' => [0b010, 0b101, 0b111, 0b101, 0b101],
        'B' => [0b110, 0b101, 0b110, 0b101, 0b110],
        'C' => [0b011, 0b100, 0b100, 0b100, 0b011],
        'D' => [0b110, 0b101, 0b101, 0b101, 0b110],
        'E' => [0b111, 0b100, 0b110, 0b100, 0b111],
        'F' => [0b111, 0b100, 0b110, 0b100, 0b100],
        'G' => [0b011, 0b100, 0b101, 0b101, 0b011],
        'H' => [0b101, 0b101, 0b111, 0b101, 0b101],
        'I' => [0b111, 0b010, 0b010, 0b010, 0b111],
        'J' => [0b001, 0b001, 0b001, 0b101, 0b010],
        'K' => [0b101, 0b101, 0b110, 0b101, 0b101],
        'L' => [0b100, 0b100, 0b100, 0b100, 0b111],
        'M' => [0b101, 0b111, 0b111, 0b101, 0b101],
        'N' => [0b110, 0b101, 0b101, 0b101, 0b101],
        'O' => [0b010, 0b101, 0b101, 0b101, 0b010],
        'P' => [0b110, 0b101, 0b110, 0b100, 0b100],
        'Q' => [0b010, 0b101, 0b101, 0b110, 0b011],
        'R' => [0b110, 0b101, 0b110, 0b101, 0b101],
        'S' => [0b011, 0b100, 0b010, 0b001, 0b110],
        'T' => [0b111, 0b010, 0b010, 0b010, 0b010],
        'U' => [0b101, 0b101, 0b101, 0b101, 0b111],
        'V' => [0b101, 0b101, 0b101, 0b101, 0b010],
        'W' => [0b101, 0b101, 0b111, 0b111, 0b101],
        'X' => [0b101, 0b101, 0b010, 0b101, 0b101],
        'Y' => [0b101, 0b101, 0b010, 0b010, 0b010],
        'Z' => [0b111, 0b001, 0b010, 0b100, 0b111],
        '\'' => [0b010, 0b010, 0, 0, 0],
        ',' => [0, 0, 0, 0b010, 0b100],
        ':' => [0, 0b010, 0, 0b010, 0],
        '!' => [0b010, 0b010, 0b010, 0, 0b010],
        '?' => [0b110, 0b001, 0b010, 0, 0b010],
        '…' => [0, 0, 0, 0, 0b111],
        _ if letter.is_whitespace() || letter.is_control() => [0; 5],
        _ => [0, 0b111, 0b111, 0b111, 0],
    }
}

/// Pixels that `text` is wide.
pub(super) fn width(text: &str, scale: u32) -> u32 {
    text.chars().count() as u32 * ADVANCE * scale
}

/// `text` in lines that are at most `pixels` wide, broken between words where that can be; what does not fit into `most` lines ends in "…".
pub(super) fn wrap(text: &str, scale: u32, pixels: u32, most: usize) -> Vec<String> {
    let letters = (pixels / (ADVANCE * scale)).max(1) as usize;
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        let fits = line.is_empty() || line.chars().count() + 1 + word.chars().count() <= letters;
        if !fits {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in word.chars() {
            if line.chars().count() == letters {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    lines.extend(Some(line).filter(|line| !line.is_empty()));
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = last.chars().take(letters - 1).chain(['…']).collect();
        }
    }
    lines
}

/// Writes `text` with its top-left corner at (x, y); what lies outside of the picture is cut.
pub(super) fn write(picture: &mut RgbImage, text: &str, (x, y): (u32, u32), scale: u32, color: Rgb<u8>) {
    for (i, letter) in text.chars().enumerate() {
        let left = x + i as u32 * ADVANCE * scale;
        for (row, bits) in rows(letter).into_iter().enumerate() {
            for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                square(picture, (left + column * scale, y + row as u32 * scale), scale, color);
            }
        }
    }
}

fn square(picture: &mut RgbImage, (x, y): (u32, u32), side: u32, color: Rgb<u8>) {
    for (dx, dy) in (0..side).flat_map(|dx| (0..side).map(move |dy| (dx, dy))) {
        if let Some(pixel) = picture.get_pixel_mut_checked(x + dx, y + dy) {
            *pixel = color;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_broken_between_words() {
        assert_eq!(wrap("an armchair in the shape", 1, 12 * ADVANCE, 3), ["an armchair", "in the shape"]);
        assert_eq!(wrap("a bb ccc", 2, 4 * ADVANCE * 2, 3), ["a bb", "ccc"]);
        assert_eq!(wrap("", 1, 40, 3), Vec::<String>::new());
    }

    #[test]
    fn a_caption_that_does_not_fit_is_cut() {
        assert_eq!(wrap("abcdefgh", 1, 4 * ADVANCE, 3), ["abcd", "efgh"]);
        assert_eq!(wrap("abcd efgh ijkl", 1, 4 * ADVANCE, 2), ["abcd", "efg…"]);
        assert_eq!(wrap("abc", 8, 1, 1), ["…"]);
    }
}
