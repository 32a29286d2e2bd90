//! A picture from outside becomes raw pixels, or is refused. Nothing is allocated before its size is known to be bounded.

use std::io::Cursor;

use bytes::Bytes;
use easel_proto::v1::Picture;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

use super::jpeg;

/// Memory beside the pixels that a decoder may use.
const DECODER_SLACK: u64 = 16 << 20;
/// Bytes that a decoder may use for each pixel: RGBA of 16 bits, once decoded and once on the way.
const BYTES_PER_PIXEL: u64 = 16;

/// What a picture may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of the file.
    pub(crate) bytes: u32,
    /// Width × height.
    pub(crate) pixels: u32,
}

/// Why a picture was refused. The words are for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("is empty")]
    Empty,
    #[error("expected at most {expected} bytes, found {found}")]
    TooLong { expected: u32, found: usize },
    #[error("expected PNG, JPEG or WebP")]
    UnknownFormat,
    #[error("an animation is not a picture")]
    Animated,
    #[error("expected at most {expected} pixels, found {width} × {height}")]
    TooLarge { expected: u32, width: u32, height: u32 },
    #[error("has no pixels")]
    NoPixels,
    #[error("is truncated")]
    Truncated,
    #[error("cannot be decoded: {0}")]
    Damaged(String),
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// The format of `bytes` and its width and height, out of the header alone.
pub(super) fn inspect(bytes: &[u8], bounds: Bounds) -> Result<(u32, u32), Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    if bytes.len() > bounds.bytes as usize {
        return Err(Refusal::TooLong { expected: bounds.bytes, found: bytes.len() });
    }
    let decoder = open(bytes, bounds)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Refusal::NoPixels);
    }
    if u64::from(width) * u64::from(height) > u64::from(bounds.pixels) {
        return Err(Refusal::TooLarge { expected: bounds.pixels, width, height });
    }
    Ok((width, height))
}

/// The pixels of `bytes`, which [`inspect`] let pass: upright, over white where it is transparent.
pub(super) fn decode(bytes: &[u8], bounds: Bounds) -> Result<Picture, Refusal> {
    let mut decoder = open(bytes, bounds)?;
    decoder.set_limits(limits(bounds))?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    let rgb8 = match picture.color().has_alpha() {
        true => over_white(&picture.into_rgba8()),
        false => picture.into_rgb8().into_raw(),
    };
    Ok(Picture { width, height, rgb8: Bytes::from(rgb8) })
}

fn limits(bounds: Bounds) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(u64::from(bounds.pixels) * BYTES_PER_PIXEL + DECODER_SLACK);
    limits
}

/// A decoder of `bytes` that has read their header.
fn open(bytes: &[u8], bounds: Bounds) -> Result<Box<dyn ImageDecoder + '_>, Refusal> {
    let source = Cursor::new(bytes);
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(source, limits(bounds))?;
            if decoder.is_apng()? {
                return Err(Refusal::Animated);
            }
            Ok(Box::new(decoder))
        }
        Ok(ImageFormat::Jpeg) => {
            if !jpeg::is_complete(bytes) {
                return Err(Refusal::Truncated);
            }
            Ok(Box::new(JpegDecoder::new(source)?))
        }
        Ok(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(source)?;
            if decoder.has_animation() {
                return Err(Refusal::Animated);
            }
            Ok(Box::new(decoder))
        }
        _ => Err(Refusal::UnknownFormat),
    }
}

fn over_white(picture: &image::RgbaImage) -> Vec<u8> {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    picture.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel[channel], pixel[3]))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, pixels: 10_000 };

    fn file(format: ImageFormat) -> Vec<u8> {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, (x * y) as u8]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn read(bytes: &[u8]) -> Result<Picture, Refusal> {
        inspect(bytes, BOUNDS)?;
        decode(bytes, BOUNDS)
    }

    #[test]
    fn each_format_is_read() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let picture = read(&file(format)).unwrap();
            assert_eq!((picture.width, picture.height, picture.rgb8.len()), (40, 30, 3600), "{format:?}");
        }
    }

    #[test]
    fn a_truncated_file_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let whole = file(format);
            for length in [1, 10, whole.len() / 2, whole.len() - 20] {
                assert!(read(&whole[..length]).is_err(), "{format:?} cut to {length} of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // IHDR: 60,000 × 60,000; nothing else needs to be there.
        let mut png = file(ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let check = crc(&png[12..29]);
        png[29..33].copy_from_slice(&check.to_be_bytes());
        let expected = Refusal::TooLarge { expected: 10_000, width: 60_000, height: 60_000 };
        assert_eq!(read(&png).unwrap_err(), expected);
    }

    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        assert_eq!(read(b"").unwrap_err(), Refusal::Empty);
        assert_eq!(read(b"GIF89a................").unwrap_err(), Refusal::UnknownFormat);
        assert_eq!(read(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap_err(), Refusal::UnknownFormat);
        assert!(matches!(read(&vec![0; 2 << 20]).unwrap_err(), Refusal::TooLong { .. }));
    }

    #[test]
    fn what_is_transparent_lies_over_white() {
        let picture = image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([10, 20, 30, if x == 0 { 0 } else { 255 }]));
        assert_eq!(over_white(&picture), [255, 255, 255, 10, 20, 30]);
    }
}
