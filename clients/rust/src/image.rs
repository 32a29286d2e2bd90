use std::path::Path;

use bytes::Bytes;
use easel_proto::v1;

use crate::Error;

/// How pictures and previews are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// PNG.
    #[default]
    Png,
    /// JPEG; its quality is [`Generate::quality`](crate::Generate::quality).
    Jpeg,
    /// WebP, lossless.
    Webp,
    /// height × width × 3 bytes: rows from the top, RGB, 8 bits each.
    Raw,
}

impl Format {
    /// The usual ending of a file of this format, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Raw => "rgb",
        }
    }

    pub(crate) fn to_proto(self) -> v1::ImageFormat {
        match self {
            Self::Png => v1::ImageFormat::Png,
            Self::Jpeg => v1::ImageFormat::Jpeg,
            Self::Webp => v1::ImageFormat::Webp,
            Self::Raw => v1::ImageFormat::Raw,
        }
    }

    fn from_proto(format: i32) -> Result<Self, Error> {
        match v1::ImageFormat::try_from(format) {
            Ok(v1::ImageFormat::Unspecified | v1::ImageFormat::Png) => Ok(Self::Png),
            Ok(v1::ImageFormat::Jpeg) => Ok(Self::Jpeg),
            Ok(v1::ImageFormat::Webp) => Ok(Self::Webp),
            Ok(v1::ImageFormat::Raw) => Ok(Self::Raw),
            Err(_) => Err(Error::Incomplete { what: "a known image format" }),
        }
    }
}

/// An encoded picture. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// How it is encoded.
    pub format: Format,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The file's bytes.
    pub data: Bytes,
}

impl Image {
    /// The usual ending of a file of its format, without the dot: "png".
    pub fn extension(&self) -> &'static str {
        self.format.extension()
    }

    /// Writes the file, over what was there.
    ///
    /// # Errors
    /// [`Error::Write`] names the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        std::fs::write(path, &self.data).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    pub(crate) fn from_proto(image: Option<v1::EncodedImage>) -> Result<Self, Error> {
        let v1::EncodedImage { format, width, height, data } = image.ok_or(Error::Incomplete { what: "a picture" })?;
        Ok(Self { format: Format::from_proto(format)?, width, height, data })
    }
}
