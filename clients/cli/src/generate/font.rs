//! Enough letters to number pictures: 3 × 5 pixels each.

use image::{Rgb, RgbImage};

/// Pixels of a letter's cell, the gap to the next one included.
const ADVANCE: u32 = 4;
/// Pixels of a letter's height.
pub(super) const HEIGHT: u32 = 5;

/// Rows from the top, three bits each, the leftmost pixel highest.
fn rows(letter: char) -> [u8; 5] {
    match letter {
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
        _ => [0; 5],
    }
}

/// Pixels that `text` is wide.
pub(super) fn width(text: &str, scale: u32) -> u32 {
    text.chars().count() as u32 * ADVANCE * scale
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
