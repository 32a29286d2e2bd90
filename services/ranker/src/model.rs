//! The model behind the service, as small as the service needs it.

use easel_onnx::{Clip, Runtime};
use easel_package::{Package, Preprocess, Ranker};
use easel_server::batcher;

use crate::{Config, Error};

/// CLIP. It belongs to one thread and blocks it.
pub trait Model: Send + 'static {
    /// RGB8 \[b, height, width, 3\], preprocessed, to unit vectors \[b, embedding_width\].
    ///
    /// # Errors
    /// The run failed.
    fn embed_images(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error>;

    /// Ids \[b, context_length\], padded, to unit vectors \[b, embedding_width\].
    ///
    /// # Errors
    /// The run failed.
    fn embed_texts(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error>;
}

/// The sizes of a model, from its package's manifest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// How pictures become the image tower's input.
    pub preprocess: Preprocess,
    /// Text positions, start and end tokens included.
    pub context_length: u32,
    /// Ids are below this.
    pub vocabulary: u32,
    /// The id that fills the positions behind a caption.
    pub pad: u32,
    /// Numbers in an embedding.
    pub embedding_width: u32,
    /// So many of them, at its end, say what lies where.
    pub layout_width: u32,
    /// Factor on cosines before a softmax over labels.
    pub logit_scale: f32,
}

impl Shape {
    /// The sizes that a manifest's ranker gives.
    pub fn of(ranker: &Ranker) -> Self {
        Self {
            preprocess: ranker.preprocess,
            context_length: ranker.text.context_length,
            vocabulary: ranker.text.vocabulary,
            pad: ranker.text.pad,
            embedding_width: ranker.embedding_width,
            layout_width: ranker.layout_width.unwrap_or(0),
            logit_scale: ranker.logit_scale,
        }
    }
}

/// A package's model, loaded and run once.
pub struct Engine {
    /// The package's name.
    pub name: String,
    /// The package's digest.
    pub digest: String,
    /// None: the package does not rank.
    pub ranker: Option<Towers>,
}

/// CLIP's two towers.
pub struct Towers {
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
        let towers = |ranker: &Ranker| {
            let clip = Clip::load(&runtime, &package, &options)?;
            let (shape, device) = (Shape::of(ranker), clip.device().to_owned());
            Ok::<_, Error>(Towers { shape, device, model: Box::new(clip) })
        };
        let manifest = package.manifest();
        let ranker = manifest.ranker.as_ref().map(towers).transpose()?;
        Ok(Engine { name: manifest.name.clone(), digest: package.digest().to_owned(), ranker })
    };
    config.packages.iter().map(load).collect()
}

impl Model for Clip {
    fn embed_images(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        Ok(Clip::embed_images(self, pixels)?)
    }

    fn embed_texts(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        Ok(Clip::embed_texts(self, ids)?)
    }
}

/// A row of a run, as the towers read it.
#[derive(Debug)]
pub(crate) enum Row {
    /// A picture.
    Image(Vec<u8>),
    /// A caption.
    Text(Vec<u32>),
}

/// A model as the batcher runs it.
pub(crate) struct Rows {
    pub(crate) model: Box<dyn Model>,
    pub(crate) shape: Shape,
}

impl batcher::Model for Rows {
    type Input = Row;
    type Output = Vec<f32>;
    type Error = Error;

    fn lane(row: &Row) -> usize {
        matches!(row, Row::Text(_)).into()
    }

    fn run(&mut self, rows: Vec<Row>) -> Result<Vec<Vec<f32>>, Error> {
        let (mut pixels, mut ids) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Image(row) => pixels.extend(row),
                Row::Text(row) => ids.extend(row),
            }
        }
        // A run has rows of one lane.
        let embeddings = match ids.is_empty() {
            true => self.model.embed_images(&pixels)?,
            false => self.model.embed_texts(&ids)?,
        };
        Ok(embeddings.chunks_exact(self.shape.embedding_width as usize).map(<[f32]>::to_vec).collect())
    }
}
