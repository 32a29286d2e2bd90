//! Parts of a package from checkpoints of their own: the picture's autoencoder, and CLIP.
//!
//! Some models keep the autoencoder in a file beside the transformer's, some inside of it; where it lies among a file's keys is found out.

use std::{collections::BTreeMap, fmt, path::Path, rc::Rc, str::FromStr};

use easel_package::{Decoder, Encoder, Grid, Preprocess, Ranker, Size};
use serde::Deserialize;

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{self, Checkpoint, Part, Tensors},
    graph::Graph,
    picture::{Discrete, Emu3, OpenAi, Palette, Picture, Range, Rounding, Vq},
    ranker,
    storage::Storage,
    tensor::Tensor,
};

/// The graphs.
const DECODER: &str = "decoder";
const ENCODER: &str = "encoder";
const PALETTE: &str = "preprocessor_config.json";
/// Rows, and columns, of a grid at most.
const CELLS: u32 = 1024;
/// Width, and height, of a picture at most.
const PIXELS: u32 = 8192;
const PALETTE_BYTES: u64 = 1 << 20;

/// Whose picture autoencoder a checkpoint has. The keys alone do not tell all of them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autoencoder {
    /// taming-transformers' VQGAN, with or without Gumbel's softmax.
    Taming,
    /// ruDALL-E's VQGAN, with or without wavelets.
    RuDalle,
    /// min-dalle's VQGAN.
    MinDalle,
    /// minDALL-E's VQGAN.
    MinDallE,
    /// Janus's, in its own names or those of Hugging Face.
    Janus,
    /// LlamaGen's.
    LlamaGen,
    /// Chameleon's VQGAN.
    Chameleon,
    /// The `VQModel` of diffusers.
    Diffusers {
        /// Its configuration's `norm_num_groups`.
        groups: usize,
    },
    /// Emu3's.
    Emu3,
    /// dalle-pytorch's `DiscreteVAE`.
    Discrete,
    /// DALL·E's dVAE, as OpenAI published it.
    OpenAi,
    /// Image GPT's palette, in its `preprocessor_config.json`.
    Palette,
}

/// Their names.
const NAMED: [(&str, Autoencoder); 12] = [
    ("taming", Autoencoder::Taming),
    ("rudalle", Autoencoder::RuDalle),
    ("min-dalle", Autoencoder::MinDalle),
    ("mindall-e", Autoencoder::MinDallE),
    ("janus", Autoencoder::Janus),
    ("llamagen", Autoencoder::LlamaGen),
    ("chameleon", Autoencoder::Chameleon),
    ("diffusers", Autoencoder::Diffusers { groups: 32 }),
    ("emu3", Autoencoder::Emu3),
    ("dalle-pytorch", Autoencoder::Discrete),
    ("openai", Autoencoder::OpenAi),
    ("image-gpt", Autoencoder::Palette),
];

impl FromStr for Autoencoder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMED.iter().find(|(name, _)| *name == text).map(|(_, autoencoder)| *autoencoder);
        let names = NAMED.map(|(name, _)| name).join(", ");
        found.ok_or_else(|| format!("expected one of {names}, found {text:?}"))
    }
}

impl fmt::Display for Autoencoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = std::mem::discriminant(self);
        let name = NAMED.iter().find(|(_, a)| std::mem::discriminant(a) == kind).map(|(name, _)| *name);
        f.write_str(name.expect("every layout has a name"))
    }
}

/// What a manifest says of the picture's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    /// Size of a decoded picture.
    pub image: Size,
    /// Shape of the image-token grid.
    pub grid: Grid,
    /// Number of image tokens.
    pub codebook: u32,
    /// Image tokens to pixels.
    pub decoder: Decoder,
    /// Pixels to image tokens; none: the checkpoint has only a decoder.
    pub encoder: Option<Encoder>,
}

/// Writes `decoder.onnx` and, where the checkpoint has an encoder, `encoder.onnx` into the folder `out`.
///
/// `source` is a file or a folder of them; the autoencoder may lie inside of a larger model. `grid` is what the model's transformer makes.
///
/// # Errors
/// Nothing of this layout is there; a tensor is missing or has another shape than the others ask for; a file cannot be read or written.
pub fn pictures(
    source: &Path,
    layout: Autoencoder,
    grid: Grid,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pictures, Error> {
    let checkpoint = Checkpoint::open(source)?;
    let writer = Writer { path: source, grid, out, options };
    writer.check("grid", [grid.rows, grid.columns], CELLS)?;
    if layout == Autoencoder::Palette {
        return writer.palette(&checkpoint);
    }
    let places = places(&checkpoint, layout)?;
    let (mut read_bytes, total_bytes) = (0, places.iter().map(Place::bytes).sum());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    match (layout.vq(), layout) {
        (Some(vq), _) => writer.vq(vq, places[0].tensors(&mut read)),
        (None, Autoencoder::OpenAi) => writer.openai(&places, &mut read),
        (None, Autoencoder::Emu3) => writer.emu3(places[0].tensors(&mut read)),
        (None, _) => writer.discrete(places[0].tensors(&mut read)),
    }
}

/// Writes CLIP's two towers, `ranker_image.onnx` and `ranker_text.onnx`, and its vocabulary, `ranker_tokenizer.json`, into the folder `out`.
///
/// `source` is a file or a folder of them, in the names of OpenAI, open_clip or Hugging Face; `tokenizer.json`, or OpenAI's list of pairs, lies beside the weights. What the weights do
/// not tell comes from `config.json` (Hugging Face) or `open_clip_config.json`.
///
/// # Errors
/// No CLIP is there; a tensor is missing or has another shape than the others ask for; a file cannot be read or written.
pub fn ranker(
    source: &Path,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Ranker, Error> {
    let clip = ranker::Source::open(source)?;
    let (mut read_bytes, total_bytes) = (0, clip.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    clip.import(out, options, &mut read)
}

/// Where an autoencoder, or half of one, lies.
struct Place {
    part: Rc<Part>,
    prefix: String,
    /// Only an encoder: of OpenAI's, which are apart.
    encodes: bool,
}

impl Place {
    fn tensors<'a>(&self, read: &'a mut dyn FnMut(u64)) -> Tensors<'a> {
        self.part.tensors(&self.prefix, read)
    }

    fn bytes(&self) -> u64 {
        let under = self.part.entries().iter().filter(|(key, _)| key.starts_with(&self.prefix));
        under.map(|(_, entry)| entry.bytes()).sum()
    }
}

/// Where a layout's keys are; of OpenAI's, the decoder's first.
fn places(checkpoint: &Checkpoint, layout: Autoencoder) -> Result<Vec<Place>, Error> {
    let key = match layout {
        Autoencoder::Discrete => "codebook.weight",
        Autoencoder::OpenAi => "blocks.input.w",
        _ => "decoder.conv_in.weight",
    };
    let (mut places, mut failed) = (Vec::new(), None);
    for part in checkpoint.parts() {
        let part = match part {
            Ok(part) => Rc::new(part),
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        let before = |name: &str| name.strip_suffix(key).map(str::to_owned);
        for (name, entry) in part.entries() {
            let Some(prefix) = before(name).filter(|p| p.is_empty() || p.ends_with('.')) else { continue };
            // Behind wavelets, the decoder lies in another.
            let outer = if layout.vq().is_some() { prefix.strip_suffix("decoder.") } else { None };
            let encodes = layout == Autoencoder::OpenAi && entry.shape.last() != Some(&1);
            places.push(Place { part: part.clone(), prefix: outer.unwrap_or(&prefix).to_owned(), encodes });
        }
    }
    places.sort_by_key(|place| place.encodes);
    if places.first().is_some_and(|place| !place.encodes) {
        return Ok(places);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let (expected, found) = (format!("the weights of the autoencoder's decoder, with {key}"), "none".into());
    Err(Error::File { path: checkpoint.path().into(), expected, found })
}

impl Autoencoder {
    /// Its numbers, if it is a kind of VQGAN.
    fn vq(self) -> Option<Vq> {
        let plain = Vq { rounding: Rounding::Down, ..Vq::TAMING };
        Some(match self {
            Self::Taming => Vq::TAMING,
            Self::RuDalle | Self::MinDallE | Self::Chameleon => plain,
            Self::MinDalle => Vq { epsilon: 1e-5, range: Range::Unit, ..plain },
            Self::Janus => Vq { unit_codes: true, ..plain },
            Self::LlamaGen => Vq { unit_codes: true, ..Vq::TAMING },
            Self::Diffusers { groups } => Vq { groups, ..Vq::TAMING },
            Self::Emu3 | Self::Discrete | Self::OpenAi | Self::Palette => return None,
        })
    }
}

struct Writer<'a> {
    path: &'a Path,
    grid: Grid,
    out: &'a Path,
    options: &'a ImportOptions,
}

impl Writer<'_> {
    fn check(&self, field: &str, numbers: [u32; 2], most: u32) -> Result<(), Error> {
        let Some(found) = numbers.into_iter().find(|n| !(1..=most).contains(n)) else { return Ok(()) };
        let (expected, found) = (format!("1 … {most}"), found.to_string());
        Err(Error::Field { path: self.path.into(), field: field.into(), expected, found })
    }

    fn cells(&self) -> [usize; 2] {
        [self.grid.rows as usize, self.grid.columns as usize]
    }

    fn graph(&self, name: &str) -> Graph {
        Graph::new(name, self.options.weights, Storage::Inline)
    }

    fn write(&self, name: &str, picture: Picture) -> Result<(String, Size), Error> {
        let [height, width] = picture.size.map(|n| n.min(PIXELS as usize + 1) as u32);
        self.check("the picture's size", [height, width], PIXELS)?;
        let (file, contract) = (format!("{name}.onnx"), format!("easel.{name}/1"));
        picture.graph.write(&self.out.join(&file), &BTreeMap::from([("easel.contract", contract)]))?;
        Ok((file, Size { width, height }))
    }

    fn decoder(&self, codebook: usize, picture: Picture) -> Result<Pictures, Error> {
        let (graph, image) = self.write(DECODER, picture)?;
        let codebook = codebook as u32;
        Ok(Pictures { image, grid: self.grid, codebook, decoder: Decoder { graph }, encoder: None })
    }

    fn encoder(&self, pictures: Pictures, picture: Picture) -> Result<Pictures, Error> {
        let (graph, size) = self.write(ENCODER, picture)?;
        Ok(Pictures { encoder: Some(Encoder { graph, preprocess: Preprocess { size } }), ..pictures })
    }

    fn vq(&self, vq: Vq, mut tensors: Tensors<'_>) -> Result<Pictures, Error> {
        tensors.ignore(Vq::unused);
        let table = vq.codebook(&mut tensors)?;
        let decoder = vq.decoder(self.graph(DECODER), &mut tensors, self.cells(), &table)?;
        let mut pictures = self.decoder(table.shape[0], decoder)?;
        if Vq::encodes(&tensors) {
            let encoder = vq.encoder(self.graph(ENCODER), &mut tensors, self.cells(), &table)?;
            pictures = self.encoder(pictures, encoder)?;
        }
        tensors.finish(None)?;
        Ok(pictures)
    }

    fn emu3(&self, mut tensors: Tensors<'_>) -> Result<Pictures, Error> {
        let table = Emu3::codebook(&mut tensors)?;
        let decoder = Emu3::decoder(self.graph(DECODER), &mut tensors, self.cells(), &table)?;
        let pictures = self.decoder(table.shape[0], decoder)?;
        let encoder = Emu3::encoder(self.graph(ENCODER), &mut tensors, self.cells(), &table)?;
        tensors.finish(None)?;
        self.encoder(pictures, encoder)
    }

    fn discrete(&self, mut tensors: Tensors<'_>) -> Result<Pictures, Error> {
        let codebook = Discrete::codebook(&tensors)?;
        let decoder = Discrete::decoder(self.graph(DECODER), &mut tensors, self.cells())?;
        let size = decoder.size;
        let pictures = self.decoder(codebook, decoder)?;
        let encoder = Discrete::encoder(self.graph(ENCODER), &mut tensors, size, codebook)?;
        tensors.finish(None)?;
        self.encoder(pictures, encoder)
    }

    fn openai(&self, places: &[Place], read: &mut dyn FnMut(u64)) -> Result<Pictures, Error> {
        let mut tensors = places[0].tensors(read);
        let graph = self.graph(DECODER);
        let (decoder, codebook) = OpenAi::decoder(graph, &mut tensors, self.cells(), Rounding::Down)?;
        tensors.finish(None)?;
        let pictures = self.decoder(codebook, decoder)?;
        let Some(place) = places.iter().find(|place| place.encodes) else { return Ok(pictures) };
        let mut tensors = place.tensors(read);
        let encoder = OpenAi::encoder(self.graph(ENCODER), &mut tensors, self.cells(), codebook)?;
        tensors.finish(None)?;
        self.encoder(pictures, encoder)
    }

    fn palette(&self, checkpoint: &Checkpoint) -> Result<Pictures, Error> {
        let file = checkpoint.file(&[PALETTE]);
        let path = file.unwrap_or_else(|| checkpoint.path().join(PALETTE));
        let text = checkpoint::text(&path, PALETTE_BYTES)?;
        let Clusters { clusters } =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        if let Some(v) = clusters.iter().flatten().find(|v| !(-1.0..=1.0).contains(*v)) {
            let (expected, found) = ("colours from -1 to 1".into(), v.to_string());
            return Err(Error::Field { path, field: "clusters".into(), expected, found });
        }
        let palette = Palette(Tensor::new("palette", &[clusters.len(), 3], clusters.concat()));
        let pictures = self.decoder(clusters.len(), palette.decoder(self.graph(DECODER), self.cells())?)?;
        self.encoder(pictures, palette.encoder(self.graph(ENCODER), self.cells())?)
    }
}

/// What Image GPT's preprocessor is told.
#[derive(Deserialize)]
struct Clusters {
    clusters: Vec<[f32; 3]>,
}
