//! The contact sheet: the caption, and all pictures, best first, each with its rank, score and seed.

use easel_client::{Picture, Ranking};
use image::{Rgb, RgbImage};

use super::font;
use crate::Error;

const GAP: u32 = 8;
const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
const INK: Rgb<u8> = Rgb([60, 60, 60]);
const FAINT: Rgb<u8> = Rgb([150, 150, 150]);
/// A picture this wide has letters of one pixel's stroke.
const WIDTH_PER_STROKE: u32 = 64;
/// Lines of a caption, at most.
const CAPTION_LINES: usize = 6;

/// Pixels of the sheet's parts.
struct Layout {
    columns: u32,
    /// Of the largest picture.
    width: u32,
    height: u32,
    scale: u32,
    caption: Vec<String>,
}

impl Layout {
    fn new(pictures: &[RgbImage], caption: &str) -> Self {
        let columns = (1..).find(|side| side * side >= pictures.len() as u32).unwrap_or(1).max(1);
        let width = pictures.iter().map(RgbImage::width).max().unwrap_or(1);
        let height = pictures.iter().map(RgbImage::height).max().unwrap_or(1);
        let scale = (width / WIDTH_PER_STROKE).max(1);
        let caption = font::wrap(caption, scale, columns * (width + GAP) - GAP, CAPTION_LINES);
        Self { columns, width, height, scale, caption }
    }

    /// From one line of letters to the next.
    fn line(&self) -> u32 {
        font::HEIGHT * self.scale + GAP / 2
    }

    /// Pixels above the first row of pictures.
    fn top(&self) -> u32 {
        GAP + if self.caption.is_empty() { 0 } else { self.caption.len() as u32 * self.line() + GAP / 2 }
    }

    fn cell(&self) -> (u32, u32) {
        (self.width + GAP, self.height + 2 * self.line() + GAP + GAP / 2)
    }

    fn sheet(&self, pictures: usize) -> RgbImage {
        let (width, height) = self.cell();
        let rows = (pictures as u32).div_ceil(self.columns).max(1);
        RgbImage::from_pixel(self.columns * width + GAP, self.top() + rows * height, PAPER)
    }

    fn corner(&self, place: usize) -> (u32, u32) {
        let (width, height) = self.cell();
        (GAP + place as u32 % self.columns * width, self.top() + place as u32 / self.columns * height)
    }
}

/// Draws the sheet: as many columns as rows, or one more.
pub(super) fn draw(caption: &str, pictures: &[Picture], ranking: &Ranking) -> Result<RgbImage, Error> {
    let decode = |picture: &Picture| match image::load_from_memory(&picture.image.data) {
        Ok(image) => Ok(image.to_rgb8()),
        Err(source) => {
            Err(Error::Picture { what: format!("the picture of seed {} cannot be read", picture.seed), source })
        }
    };
    let images = pictures.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::new(&images, caption);
    let mut sheet = layout.sheet(images.len());
    for (place, words) in layout.caption.iter().enumerate() {
        font::write(&mut sheet, words, (GAP, GAP + place as u32 * layout.line()), layout.scale, INK);
    }
    for (place, (image, picture)) in images.iter().zip(pictures).enumerate() {
        let (x, y) = layout.corner(place);
        image::imageops::replace(&mut sheet, image, x.into(), y.into());
        let line = y + layout.height + GAP / 2;
        let rank = (place + 1).to_string();
        font::write(&mut sheet, &rank, (x, line), layout.scale, INK);
        if let Some(score) = ranking.score(picture.candidate) {
            let right = x + font::width(&rank, layout.scale) + font::width(" ", layout.scale);
            font::write(&mut sheet, &format!("{score:.3}"), (right, line), layout.scale, FAINT);
        }
        font::write(&mut sheet, &format!("seed {}", picture.seed), (x, line + layout.line()), layout.scale, FAINT);
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Cursor;

    use easel_client::{Format, Image};

    use super::*;

    fn picture(color: [u8; 3]) -> Picture {
        let mut data = Cursor::new(Vec::new());
        RgbImage::from_pixel(64, 64, Rgb(color)).write_to(&mut data, image::ImageFormat::Png).unwrap();
        let image = Image { format: Format::Png, width: 64, height: 64, data: data.into_inner().into() };
        Picture {
            candidate: 0,
            seed: 1,
            image,
            clip_score: Some(0.312),
            image_tokens: Vec::new(),
            log_likelihood: 0.0,
            unconditional_log_likelihood: None,
        }
    }

    #[test]
    fn every_picture_is_on_the_sheet() {
        let colors = [[200, 0, 0], [0, 200, 0], [0, 0, 200]];
        let sheet = draw("a square", &colors.map(picture), &Ranking::default()).unwrap();
        let (line, gaps) = (5 + 4, 8 + 4);
        assert_eq!(sheet.dimensions(), (2 * 72 + 8, 8 + line + 4 + 2 * (64 + 2 * line + gaps)));
        for color in colors {
            assert_eq!(sheet.pixels().filter(|pixel| pixel.0 == color).count(), 64 * 64);
        }
        assert!(sheet.pixels().any(|pixel| *pixel == INK));
    }

    #[test]
    fn the_caption_is_above_the_pictures() {
        let height = |caption: &str| draw(caption, &[picture([200, 0, 0])], &Ranking::default()).unwrap().height();
        assert_eq!(height("a square") - height(""), 9 + 4);
        assert_eq!(height("a very red square") - height("a square"), 9);
        assert_eq!(height(&"word ".repeat(10_000)) - height("a square"), 5 * 9);
    }

    #[test]
    fn no_pictures_make_an_empty_sheet() {
        assert!(draw("", &[], &Ranking::default()).unwrap().pixels().all(|pixel| *pixel == PAPER));
    }
}
