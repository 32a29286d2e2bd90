//! The model behind the service, as small as the service needs it.

use easel_onnx::{ImageDecoder, ImageEncoder, Runtime};
use easel_package::{Grid, Manifest, Package, Preprocess, Size};
use easel_server::batcher;

use crate::{Config, Error};

/// A discrete VAE. It belongs to one thread and blocks it.
pub trait Model: Send + 'static {
    /// Image tokens \[b, cells\] to RGB8 \[b, height, width, 3\].
    ///
    /// # Errors
    /// The run failed.
    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u8>, Error>;

    /// RGB8 \[b, height, width, 3\] to image tokens \[b, cells\]. Called only when the shape has an encoder.
    ///
    /// # Errors
    /// The run failed.
    fn encode(&mut self, pixels: &[u8]) -> Result<Vec<u32>, Error>;
}

/// The sizes of a model, from its package's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The image-token grid.
    pub grid: Grid,
    /// Image tokens are below this.
    pub codebook: u32,
    /// A decoded picture.
    pub image: Size,
    /// How pictures become the encoder's input; none: there is no encoder.
    pub encoder: Option<Preprocess>,
}

impl Shape {
    /// The sizes that a manifest gives.
    pub fn of(manifest: &Manifest) -> Self {
        let Manifest { grid, codebook, image, .. } = *manifest;
        Self { grid, codebook, image, encoder: manifest.encoder.as_ref().map(|encoder| encoder.preprocess) }
    }
}

/// A package's model, loaded and run once.
pub struct Engine {
    /// The package's name.
    pub name: String,
    /// The package's digest.
    pub digest: String,
    /// The model's sizes.
    pub shape: Shape,
    /// `cpu` or `cuda`.
    pub device: String,
    /// The model.
    pub model: Box<dyn Model>,
}

/// Loads the packages of `config`, in order.
pub(crate) fn load(config: &Config) -> Result<Vec<Engine>, Error> {
    let runtime = Runtime::load()?;
    let options = config.engine();
    let load = |folder| {
        let package = Package::open(folder)?;
        let decoder = ImageDecoder::load(&runtime, &package, &options)?;
        let shape = Shape::of(package.manifest());
        let encoder = shape.encoder.map(|_| ImageEncoder::load(&runtime, &package, &options)).transpose()?;
        Ok(Engine {
            name: package.manifest().name.clone(),
            digest: package.digest().to_owned(),
            shape,
            device: decoder.device().to_owned(),
            model: Box::new(Onnx { decoder, encoder }),
        })
    };
    config.packages.iter().map(load).collect()
}

/// The graphs of a package.
struct Onnx {
    decoder: ImageDecoder,
    encoder: Option<ImageEncoder>,
}

impl Model for Onnx {
    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        Ok(self.decoder.decode(tokens)?)
    }

    fn encode(&mut self, pixels: &[u8]) -> Result<Vec<u32>, Error> {
        let encoder = self.encoder.as_mut().expect("asked only where the shape has an encoder");
        Ok(encoder.encode(pixels)?)
    }
}

/// A row of a run: a picture in one of its forms.
#[derive(Debug)]
pub(crate) enum Row {
    /// To be decoded.
    Tokens(Vec<u32>),
    /// To be encoded.
    Pixels(Vec<u8>),
}

/// A picture in both of its forms.
#[derive(Debug)]
pub(crate) struct Both {
    /// Raster order.
    pub(crate) tokens: Vec<u32>,
    /// RGB8.
    pub(crate) pixels: Vec<u8>,
}

/// A model as the batcher runs it.
pub(crate) struct Rows {
    pub(crate) model: Box<dyn Model>,
    pub(crate) shape: Shape,
}

impl batcher::Model for Rows {
    type Input = Row;
    type Output = Both;
    type Error = Error;

    fn lane(row: &Row) -> usize {
        matches!(row, Row::Pixels(_)).into()
    }

    fn run(&mut self, rows: Vec<Row>) -> Result<Vec<Both>, Error> {
        let (mut tokens, mut pixels) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Tokens(row) => tokens.extend(row),
                Row::Pixels(row) => pixels.extend(row),
            }
        }
        // A run has rows of one lane.
        let image = match tokens.is_empty() {
            false => {
                pixels = self.model.decode(&tokens)?;
                self.shape.image
            }
            true => {
                tokens = self.model.encode(&pixels)?;
                self.shape.encoder.map_or(self.shape.image, |preprocess| preprocess.size)
            }
        };
        let pictures = pixels.chunks_exact(image.width as usize * image.height as usize * 3);
        let grids = tokens.chunks_exact(self.shape.grid.cells());
        Ok(grids.zip(pictures).map(|(tokens, pixels)| Both { tokens: tokens.into(), pixels: pixels.into() }).collect())
    }
}
