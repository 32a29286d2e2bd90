//! Pictures in the terminal.

use std::env;
use std::io::{self, Cursor, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use easel_client::Image;
use image::RgbImage;

/// Columns of a picture that is drawn with letters; each shows two rows of pixels.
const COLUMNS: u32 = 32;
/// Columns that an inline picture takes.
const INLINE_COLUMNS: u32 = 32;
/// What kitty takes at once.
const KITTY_CHUNK: usize = 4096;

/// What the terminal behind standard error can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    /// No pictures.
    None,
    /// 24-bit colours: two pixels to a letter.
    Truecolor,
    /// kitty's graphics protocol.
    Kitty,
    /// iTerm2's inline images.
    ITerm,
}

impl Terminal {
    /// By what the terminal tells in the environment.
    pub(super) fn detect() -> Self {
        let is = |name: &str, values: &[&str]| env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
        if !io::stderr().is_terminal() {
            Self::None
        } else if is("TERM", &["xterm-kitty"]) || env::var_os("KITTY_WINDOW_ID").is_some() {
            Self::Kitty
        } else if is("TERM_PROGRAM", &["iTerm.app"]) {
            Self::ITerm
        } else if is("COLORTERM", &["truecolor", "24bit"]) {
            Self::Truecolor
        } else {
            Self::None
        }
    }

    /// Shows a finished picture. One that cannot be shown is no reason to fail: it is in its file.
    pub(super) fn show(self, image: &Image) {
        let shown = match self {
            Self::None => None,
            Self::Truecolor => decoded(image).map(|pixels| half_blocks(&pixels) + "\n"),
            Self::Kitty => decoded(image).and_then(|pixels| png(&pixels)).map(|png| kitty(&png)),
            Self::ITerm => Some(iterm(&image.data)),
        };
        let _ = shown.map(|text| io::stderr().lock().write_all(text.as_bytes()));
    }
}

/// The picture as lines of coloured letters, for a place that is drawn over and over.
pub(super) fn lines(image: &Image) -> Option<String> {
    decoded(image).map(|pixels| half_blocks(&pixels))
}

fn decoded(image: &Image) -> Option<RgbImage> {
    image::load_from_memory(&image.data).ok().map(|image| image.to_rgb8())
}

fn png(pixels: &RgbImage) -> Option<Vec<u8>> {
    let mut data = Cursor::new(Vec::new());
    pixels.write_to(&mut data, image::ImageFormat::Png).ok()?;
    Some(data.into_inner())
}

fn half_blocks(pixels: &RgbImage) -> String {
    let (width, height) = pixels.dimensions();
    let columns = width.clamp(1, COLUMNS);
    let rows = (height * columns / width.max(1)).max(2).next_multiple_of(2);
    let small = image::imageops::thumbnail(pixels, columns, rows);
    let line = |row: u32| {
        let letters = (0..columns).map(|column| {
            let ([r, g, b], [r2, g2, b2]) = (small.get_pixel(column, row).0, small.get_pixel(column, row + 1).0);
            format!("\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀")
        });
        letters.collect::<String>() + "\x1b[0m"
    };
    (0..rows).step_by(2).map(line).collect::<Vec<_>>().join("\n")
}

fn kitty(png: &[u8]) -> String {
    let data = STANDARD.encode(png);
    let chunks: Vec<&str> =
        data.as_bytes().chunks(KITTY_CHUNK).filter_map(|chunk| str::from_utf8(chunk).ok()).collect();
    let mut text = String::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let head = if i == 0 { format!("f=100,a=T,c={INLINE_COLUMNS},") } else { String::new() };
        let more = u8::from(i + 1 < chunks.len());
        text.push_str(&format!("\x1b_G{head}m={more};{chunk}\x1b\\"));
    }
    text.push('\n');
    text
}

fn iterm(data: &[u8]) -> String {
    let (size, data) = (data.len(), STANDARD.encode(data));
    format!("\x1b]1337;File=inline=1;size={size};width={INLINE_COLUMNS};preserveAspectRatio=1:{data}\x07\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_any_shape_becomes_letters() {
        for (width, height, lines) in [(128, 128, 16), (1, 1, 1), (500, 3, 1), (3, 500, 250)] {
            let text = half_blocks(&RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7])));
            assert_eq!(text.lines().count(), lines, "{width} × {height}");
            assert!(text.contains("38;2;9;8;7"));
        }
    }

    #[test]
    fn kitty_gets_its_picture_in_chunks() {
        let text = kitty(&[7; 10_000]);
        assert_eq!(text.matches("\x1b_G").count(), 4);
        assert_eq!(text.matches("m=1;").count(), 3);
        assert_eq!(text.matches("a=T").count(), 1);
    }
}
