use easel_package::Package;

use crate::{Error, Options, Runtime};

/// CLIP's two towers (contract `easel.ranker/1`).
#[derive(Debug)]
pub struct Clip {}

impl Clip {
    /// Loads both towers of the package.
    ///
    /// # Errors
    /// The package has none, a graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(_runtime: &Runtime, package: &Package, _options: &Options) -> Result<Self, Error> {
        Err(Error::Absent { package: package.manifest().name.clone(), part: "ranker" })
    }

    /// Unit vectors f32 \[b, embedding_width\] of `pixels`, RGB8 \[b, height, width, 3\] of the size that the manifest's preprocessing gives.
    ///
    /// # Errors
    /// No whole number of pictures.
    pub fn embed_images(&mut self, _pixels: &[u8]) -> Result<Vec<f32>, Error> {
        Ok(Vec::new())
    }

    /// Unit vectors f32 \[b, embedding_width\] of `ids` \[b, context_length\], padded as the manifest says.
    ///
    /// # Errors
    /// No whole number of captions, or an id outside of the vocabulary.
    pub fn embed_texts(&mut self, _ids: &[u32]) -> Result<Vec<f32>, Error> {
        Ok(Vec::new())
    }

    /// Where the graphs run: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        "cpu"
    }
}
