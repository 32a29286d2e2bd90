use easel_package::{Package, Size};
use ort::value::{TensorElementType, TensorRef};

use crate::{
    Error, Options, Runtime,
    contract::{
        Dimension::{Any, Is},
        Port,
    },
    graph::{Contract, Graph},
};

/// Image tokens to pixels (contract `easel.decoder/1`).
#[derive(Debug)]
pub struct ImageDecoder {
    graph: Graph,
    cells: usize,
    codebook: u32,
    size: Size,
    tokens: Vec<i64>,
}

impl ImageDecoder {
    /// Loads the decoder of the package and decodes a first picture.
    ///
    /// # Errors
    /// The graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(runtime: &Runtime, package: &Package, options: &Options) -> Result<Self, Error> {
        let manifest = package.manifest();
        let (cells, codebook, size) = (manifest.grid.cells(), manifest.codebook, manifest.image);
        let contract = Contract { inputs: [tokens_port(cells)], output: pixels_port(size) };
        let graph = Graph::load(runtime, package, &manifest.decoder.graph, options, None, &contract)?;
        let mut decoder = Self { graph, cells, codebook, size, tokens: Vec::new() };
        decoder.decode(&vec![0; cells])?;
        Ok(decoder)
    }

    /// The pictures of `tokens` \[b, cells\] in raster order: RGB8 \[b, height, width, 3\].
    ///
    /// # Errors
    /// No whole number of grids, or a token outside of the codebook; a failure of ONNX Runtime.
    pub fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let pictures = whole("tokens", tokens.len(), self.cells)?;
        below("tokens", tokens, self.codebook)?;
        self.tokens.clear();
        self.tokens.extend(tokens.iter().copied().map(i64::from));
        let input = TensorRef::from_array_view(([pictures, self.cells], &*self.tokens));
        let input = input.map_err(|error| self.graph.error(error))?;
        self.graph.run_flat(vec![("tokens", input.into())], pictures * pixels(self.size))
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        self.graph.device()
    }
}

/// Pixels to image tokens (contract `easel.encoder/1`).
#[derive(Debug)]
pub struct ImageEncoder {
    graph: Graph,
    cells: usize,
    codebook: u32,
    size: Size,
}

impl ImageEncoder {
    /// Loads the encoder of the package and encodes a first picture.
    ///
    /// # Errors
    /// The package has none, the graph is damaged or not what the manifest says, the device cannot be had, or the memory limit is too small.
    pub fn load(runtime: &Runtime, package: &Package, options: &Options) -> Result<Self, Error> {
        let manifest = package.manifest();
        let Some(encoder) = &manifest.encoder else {
            return Err(Error::Absent { package: manifest.name.clone(), part: "encoder" });
        };
        let (cells, codebook, size) = (manifest.grid.cells(), manifest.codebook, encoder.preprocess.size);
        let contract = Contract { inputs: [pixels_port(size)], output: tokens_port(cells) };
        let graph = Graph::load(runtime, package, &encoder.graph, options, None, &contract)?;
        let mut encoder = Self { graph, cells, codebook, size };
        encoder.encode(&vec![0; pixels(size)])?;
        Ok(encoder)
    }

    /// The image tokens \[b, cells\] of `pixels`, RGB8 \[b, height, width, 3\] of the size that the manifest's preprocessing gives.
    ///
    /// # Errors
    /// No whole number of pictures; a failure of ONNX Runtime, or tokens outside of the codebook.
    pub fn encode(&mut self, pixels: &[u8]) -> Result<Vec<u32>, Error> {
        let (pictures, input) = pictures(&self.graph, pixels, self.size)?;
        let tokens: Vec<i64> = self.graph.run_flat(vec![("pixels", input)], pictures * self.cells)?;
        let token = |token: i64| u32::try_from(token).ok().filter(|token| *token < self.codebook);
        let outside =
            || self.graph.error(format_args!("output tokens: expected 0 … {}, found another", self.codebook - 1));
        tokens.into_iter().map(token).collect::<Option<_>>().ok_or_else(outside)
    }

    /// Where the graph runs: `cpu` or `cuda`.
    pub fn device(&self) -> &str {
        self.graph.device()
    }
}

fn tokens_port(cells: usize) -> Port {
    Port::new("tokens", TensorElementType::Int64, [Any("b"), Is(cells)])
}

pub(crate) fn pixels_port(size: Size) -> Port {
    let dimensions = [Any("b"), Is(size.height as usize), Is(size.width as usize), Is(3)];
    Port::new("pixels", TensorElementType::Uint8, dimensions)
}

/// Bytes of a picture.
pub(crate) fn pixels(size: Size) -> usize {
    size.height as usize * size.width as usize * 3
}

/// How many pictures, and all of them as the input of `graph`.
pub(crate) fn pictures<'a>(
    graph: &Graph,
    pixels: &'a [u8],
    size: Size,
) -> Result<(usize, ort::session::SessionInputValue<'a>), Error> {
    let pictures = whole("pixels", pixels.len(), self::pixels(size))?;
    let shape = [pictures, size.height as usize, size.width as usize, 3];
    let input = TensorRef::from_array_view((shape, pixels)).map_err(|error| graph.error(error))?;
    Ok((pictures, input.into()))
}

/// How many items of `item` numbers there are; at least one.
pub(crate) fn whole(field: &str, numbers: usize, item: usize) -> Result<usize, Error> {
    if numbers == 0 || !numbers.is_multiple_of(item) {
        return Err(Error::input(field, format_args!("a multiple of {item} numbers"), numbers));
    }
    Ok(numbers / item)
}

/// Fails unless every id is below `bound`.
pub(crate) fn below(field: &str, ids: &[u32], bound: u32) -> Result<(), Error> {
    match ids.iter().position(|id| *id >= bound) {
        Some(i) => Err(Error::input(format!("{field}[{i}]"), format_args!("0 … {}", bound - 1), ids[i])),
        None => Ok(()),
    }
}
