use easel_package::{Package, Ranker, Size};
use ort::value::{TensorElementType, TensorRef};

use crate::{
    Error, Options, Runtime,
    contract::{
        Dimension::{Any, Is},
        Port,
    },
    graph::{Contract, Graph},
    image::{below, pictures, pixels, pixels_port, whole},
};

/// CLIP's two towers (contract `easel.ranker/1`).
#[derive(Debug)]
pub struct Clip {
    images: Graph,
    texts: Graph,
    size: Size,
    context_length: usize,
    vocabulary: u32,
    embedding_width: usize,
    ids: Vec<i64>,
}

impl Clip {
    /// Loads both towers of the package and embeds a first picture and caption.
    ///
    /// # Errors
    /// The package has none, a graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(runtime: &Runtime, package: &Package, options: &Options) -> Result<Self, Error> {
        let manifest = package.manifest();
        let Some(ranker) = &manifest.ranker else {
            return Err(Error::Absent { package: manifest.name.clone(), part: "ranker" });
        };
        let size = ranker.preprocess.size;
        let context_length = ranker.text.context_length as usize;
        let ids = Port::new("token_ids", TensorElementType::Int64, [Any("b"), Is(context_length)]);
        let image_contract = Contract { inputs: [pixels_port(size)], output: embeddings_port(ranker) };
        let text_contract = Contract { inputs: [ids], output: embeddings_port(ranker) };
        let mut clip = Self {
            images: Graph::load(runtime, package, &ranker.image_graph, options, None, &image_contract)?,
            texts: Graph::load(runtime, package, &ranker.text_graph, options, None, &text_contract)?,
            size,
            context_length,
            vocabulary: ranker.text.vocabulary,
            embedding_width: ranker.embedding_width as usize,
            ids: Vec::new(),
        };
        clip.embed_images(&vec![0; pixels(size)])?;
        clip.embed_texts(&vec![0; context_length])?;
        Ok(clip)
    }

    /// Unit vectors f32 \[b, embedding_width\] of `pixels`, RGB8 \[b, height, width, 3\] of the size that the manifest's preprocessing gives.
    ///
    /// # Errors
    /// No whole number of pictures; a failure of ONNX Runtime.
    pub fn embed_images(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        let (pictures, input) = pictures(&self.images, pixels, self.size)?;
        self.images.run_flat(vec![("pixels", input)], pictures * self.embedding_width)
    }

    /// Unit vectors f32 \[b, embedding_width\] of `ids` \[b, context_length\], padded as the manifest says.
    ///
    /// # Errors
    /// No whole number of captions, or an id outside of the vocabulary; a failure of ONNX Runtime.
    pub fn embed_texts(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let texts = whole("ids", ids.len(), self.context_length)?;
        below("ids", ids, self.vocabulary)?;
        self.ids.clear();
        self.ids.extend(ids.iter().copied().map(i64::from));
        let input = TensorRef::from_array_view(([texts, self.context_length], &*self.ids));
        let input = input.map_err(|error| self.texts.error(error))?;
        self.texts.run_flat(vec![("token_ids", input.into())], texts * self.embedding_width)
    }

    /// Where the graphs run: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        self.images.device()
    }
}

fn embeddings_port(ranker: &Ranker) -> Port {
    Port::new("embeddings", TensorElementType::Float32, [Any("b"), Is(ranker.embedding_width as usize)])
}
