//! The contact sheet: all pictures, best first, each with its rank and score.

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

/// Pixels of the sheet's parts.
struct Layout {
    columns: u32,
    /// Of the largest picture.
    width: u32,
    height: u32,
    scale: u32,
}

impl Layout {
    fn new(pictures: &[RgbImage]) -> Self {
        let columns = (1..).find(|side| side * side >= pictures.len() as u32).unwrap_or(1).max(1);
        let width = pictures.iter().map(RgbImage::width).max().unwrap_or(1);
        let height = pictures.iter().map(RgbImage::height).max().unwrap_or(1);
        Self { columns, width, height, scale: (width / WIDTH_PER_STROKE).max(1) }
    }

    fn cell(&self) -> (u32, u32) {
        (self.width + GAP, self.height + font::HEIGHT * self.scale + 2 * GAP)
    }

    fn sheet(&self, pictures: usize) -> RgbImage {
        let (width, height) = self.cell();
        let rows = (pictures as u32).div_ceil(self.columns).max(1);
        RgbImage::from_pixel(self.columns * width + GAP, rows * height + GAP, PAPER)
    }

    fn corner(&self, place: usize) -> (u32, u32) {
        let (width, height) = self.cell();
        (GAP + place as u32 % self.columns * width, GAP + place as u32 / self.columns * height)
    }
}

/// Draws the sheet: as many columns as rows, or one more.
pub(super) fn draw(pictures: &[Picture], ranking: &Ranking) -> Result<RgbImage, Error> {
    let decode = |picture: &Picture| match image::load_from_memory(&picture.image.data) {
        Ok(image) => Ok(image.to_rgb8()),
        Err(source) => {
            Err(Error::Picture { what: format!("the picture of seed {} cannot be read", picture.seed), source })
        }
    };
    let images = pictures.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::new(&images);
    let mut sheet = layout.sheet(images.len());
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
        let sheet = draw(&colors.map(picture), &Ranking::default()).unwrap();
        assert_eq!(sheet.dimensions(), (2 * 72 + 8, 2 * (64 + 5 + 16) + 8));
        for color in colors {
            assert_eq!(sheet.pixels().filter(|pixel| pixel.0 == color).count(), 64 * 64);
        }
        assert!(sheet.pixels().any(|pixel| *pixel == INK));
    }

    #[test]
    fn no_pictures_make_an_empty_sheet() {
        assert!(draw(&[], &Ranking::default()).unwrap().pixels().all(|pixel| *pixel == PAPER));
    }
}
