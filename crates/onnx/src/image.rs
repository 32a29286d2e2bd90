use easel_package::Package;

use crate::{Error, Options, Runtime};

/// Image tokens to pixels (contract `easel.decoder/1`).
#[derive(Debug)]
pub struct ImageDecoder {}

impl ImageDecoder {
    /// Loads the decoder of the package.
    ///
    /// # Errors
    /// The graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(_runtime: &Runtime, package: &Package, _options: &Options) -> Result<Self, Error> {
        Err(Error::Absent { package: package.manifest().name.clone(), part: "decoder" })
    }

    /// The pictures of `tokens` \[b, cells\] in raster order: RGB8 \[b, height, width, 3\].
    ///
    /// # Errors
    /// No whole number of grids, or a token outside of the codebook.
    pub fn decode(&mut self, _tokens: &[u32]) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        "cpu"
    }
}

/// Pixels to image tokens (contract `easel.encoder/1`).
#[derive(Debug)]
pub struct ImageEncoder {}

impl ImageEncoder {
    /// Loads the encoder of the package.
    ///
    /// # Errors
    /// The package has none, the graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(_runtime: &Runtime, package: &Package, _options: &Options) -> Result<Self, Error> {
        Err(Error::Absent { package: package.manifest().name.clone(), part: "encoder" })
    }

    /// The image tokens \[b, cells\] of `pixels`, RGB8 \[b, height, width, 3\] of the size that the manifest's preprocessing gives.
    ///
    /// # Errors
    /// No whole number of pictures.
    pub fn encode(&mut self, _pixels: &[u8]) -> Result<Vec<u32>, Error> {
        Ok(Vec::new())
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        "cpu"
    }
}
