//! Raw pixels become a file.

use bytes::Bytes;
use easel_proto::v1::{EncodedImage, ImageFormat, Picture};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

/// JPEG quality when the caller names none.
const QUALITY: u8 = 90;

/// How a caller wants its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Png,
    Jpeg { quality: u8 },
    WebP,
    Raw,
}

impl Encoding {
    /// What `format` and `quality` (of JPEG; 0: the default) ask for.
    pub(crate) fn new(format: ImageFormat, quality: u8) -> Self {
        match format {
            ImageFormat::Unspecified | ImageFormat::Png => Self::Png,
            ImageFormat::Jpeg => Self::Jpeg { quality: if quality == 0 { QUALITY } else { quality } },
            ImageFormat::Webp => Self::WebP,
            ImageFormat::Raw => Self::Raw,
        }
    }

    fn format(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg { .. } => ImageFormat::Jpeg,
            Self::WebP => ImageFormat::Webp,
            Self::Raw => ImageFormat::Raw,
        }
    }
}

/// `picture` as a file.
///
/// # Errors
/// The encoder's, when a format cannot hold a picture of this size.
pub(super) fn encode(picture: &Picture, encoding: Encoding) -> Result<EncodedImage, ImageError> {
    let &Picture { width, height, ref rgb8 } = picture;
    let mut file = Vec::new();
    let color = ExtendedColorType::Rgb8;
    match encoding {
        Encoding::Png => PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Adaptive)
            .write_image(rgb8, width, height, color)?,
        Encoding::Jpeg { quality } => {
            JpegEncoder::new_with_quality(&mut file, quality).write_image(rgb8, width, height, color)?;
        }
        Encoding::WebP => WebPEncoder::new_lossless(&mut file).write_image(rgb8, width, height, color)?,
        Encoding::Raw => {}
    }
    let data = match encoding {
        Encoding::Raw => rgb8.clone(),
        _ => Bytes::from(file),
    };
    Ok(EncodedImage { format: encoding.format().into(), width, height, data })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn picture() -> Picture {
        let rgb8 = (0..32 * 24).flat_map(|i| [i as u8, (i / 3) as u8, (i * 7) as u8]).collect::<Vec<u8>>();
        Picture { width: 32, height: 24, rgb8: rgb8.into() }
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        let picture = picture();
        for encoding in [Encoding::Png, Encoding::WebP] {
            let file = encode(&picture, encoding).unwrap();
            assert_eq!(
                image::load_from_memory(&file.data).unwrap().into_rgb8().into_raw(),
                picture.rgb8,
                "{encoding:?}"
            );
        }
        assert_eq!(encode(&picture, Encoding::Raw).unwrap().data, picture.rgb8);
    }

    #[test]
    fn quality_costs_bytes() {
        let picture = picture();
        let bytes = |quality| encode(&picture, Encoding::new(ImageFormat::Jpeg, quality)).unwrap().data.len();
        assert!(bytes(10) < bytes(95));
        assert_eq!(bytes(0), bytes(QUALITY));
    }
}
