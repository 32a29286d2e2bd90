//! The family `image-gpt`: Image GPT in the names of Hugging Face. It reads no captions, and its image tokens are colours.

use std::{collections::BTreeMap, path::Path};

use easel_package::{AttentionGeometry, Grid, Manifest, Padding, Sampler, Sampling, Text, Ties};
use serde::Deserialize;

use crate::{
    Error, ImportOptions, Mask, Progress,
    checkpoint::{self, Checkpoint, Tensors},
    graph::Graph,
    layers::{Activation, Linear, Normalization},
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tensor::Tensor,
    transformer::{Attention, Count, Embedding, Geometry, Head, ImageEmbedding, Layer, Mlp, Streams, Transformer},
};

const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/1";
/// Positions before the image: the token that begins it, the only text id.
const START: u32 = 0;

/// What `config.json` says, with the defaults of transformers.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "Config::heads")]
    n_head: usize,
    #[serde(default = "Config::epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default)]
    activation_function: Act,
    #[serde(default = "Config::scaled")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
}

impl Config {
    fn heads() -> usize {
        8
    }

    fn epsilon() -> f32 {
        1e-5
    }

    fn scaled() -> bool {
        true
    }
}

/// The activation's name there.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    #[default]
    QuickGelu,
    Gelu,
    GeluNew,
}

impl Act {
    fn activation(self) -> Activation {
        match self {
            Self::QuickGelu => Activation::QuickGelu,
            Self::Gelu => Activation::Gelu,
            Self::GeluNew => Activation::GeluTanh,
        }
    }
}

/// Sizes that the tensors tell.
struct Sizes {
    width: usize,
    layers: usize,
    side: usize,
    /// Colours.
    codebook: usize,
}

/// Writes the graphs into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let part = checkpoint.part_with(&["transformer.wpe.weight", "lm_head.weight"])?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let sizes = sizes(&part.tensors("", &mut read))?;
    let config = config(checkpoint, &sizes)?;
    let grid = Grid { rows: sizes.side as u32, columns: sizes.side as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::Palette, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != sizes.codebook {
        let (expected, found) = (sizes.codebook.to_string(), pictures.codebook.to_string());
        let field = "clusters (colours, as lm_head has them)".into();
        return Err(Error::Field { path: checkpoint.path().into(), field, expected, found });
    }
    let mut tensors = part.tensors("", &mut read);
    // Masks that older versions save.
    tensors.ignore(|key| key.ends_with(".attn.bias") || key.ends_with(".attn.masked_bias"));
    let path = out.join(SAMPLER);
    let storage = Storage::choose(&path, part.bytes(), options.inline_limit_bytes)?;
    let graph =
        build(Graph::new("sampler", options.weights, storage).on(options.device), &mut tensors, &config, &sizes)?;
    tensors.finish(None)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the transformer".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&config, &sizes, pictures) })
}

fn sizes(tensors: &Tensors<'_>) -> Result<Sizes, Error> {
    let [cells, width] = tensors.shape("transformer.wpe.weight")?;
    let [codebook, _] = tensors.shape("lm_head.weight")?;
    let side = cells.isqrt();
    if side * side != cells || side > 1024 {
        let found = format!("{cells} positions");
        return Err(tensors.wrong("transformer.wpe.weight", "a square of at most 1024 × 1024".into(), found));
    }
    let layers = (0..1024).take_while(|i| tensors.contains(&format!("transformer.h.{i}.ln_1.weight"))).count();
    Ok(Sizes { width, layers, side, codebook })
}

fn config(checkpoint: &Checkpoint, sizes: &Sizes) -> Result<Config, Error> {
    let path = checkpoint.path().join("config.json");
    let config: Config = checkpoint::parse(&path, "", checkpoint.config())?;
    let fail = |field: &str, expected: String, found: String| {
        Err(Error::Field { path: path.clone(), field: field.into(), expected, found })
    };
    if !(1..=1024).contains(&config.n_head) || !sizes.width.is_multiple_of(config.n_head) {
        return fail("n_head", format!("a divisor of {}, at most 1024", sizes.width), config.n_head.to_string());
    }
    if config.scale_attn_by_inverse_layer_idx {
        return fail("scale_attn_by_inverse_layer_idx", "false".into(), "true".into());
    }
    Ok(config)
}

fn build(graph: Graph, tensors: &mut Tensors<'_>, config: &Config, s: &Sizes) -> Result<Graph, Error> {
    let (head_width, cells) = (s.width / config.n_head, s.side * s.side);
    let geometry = Geometry {
        width: s.width,
        heads: config.n_head,
        query_heads: config.n_head,
        head_width,
        layers: s.layers,
        text_length: 1,
        mask_text_length: 1,
        rows: s.side,
        columns: s.side,
        codebook: s.codebook,
        kernel: 0,
        attention_scale: if config.scale_attn_weights { (head_width as f32).powf(-0.5) } else { 1.0 },
        streams: Streams::One,
        count: Count::Positions,
    };
    let tokens = tensors.take("transformer.wte.weight", &[s.codebook + 1, s.width])?;
    let mut position = tensors.take("transformer.wpe.weight", &[cells, s.width])?.values;
    // The last token is never fed.
    position.resize((1 + cells) * s.width, 0.0);
    let embedding = Embedding {
        text: tokens.rows_of(s.codebook..s.codebook + 1),
        image: ImageEmbedding::Table(tokens.rows_of(0..s.codebook)),
        position: Some(Tensor::new("position", &[1 + cells, s.width], position)),
        norm: None,
        rotary: None,
    };
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for i in 0..s.layers {
        transformer.layer(&layer(tensors, config, s.width, i)?)?;
    }
    let norms = vec![norm(tensors, config, "transformer.ln_f", s.width)?];
    let weight = tensors.take("lm_head.weight", &[s.codebook, s.width])?;
    transformer.finish(&Head { norms, inner: None, linear: Linear { weight, bias: None } })
}

fn layer(tensors: &mut Tensors<'_>, config: &Config, width: usize, i: usize) -> Result<Layer, Error> {
    let key = |name: &str| format!("transformer.h.{i}.{name}");
    let [_, hidden] = tensors.shape(&key("mlp.c_fc.weight"))?;
    let mut linear = |name: &str, [inputs, outputs]: [usize; 2]| {
        let weight = tensors.take(&key(&format!("{name}.weight")), &[inputs, outputs])?.transposed();
        let bias = Some(tensors.take(&key(&format!("{name}.bias")), &[outputs])?);
        Ok::<_, Error>(Linear { weight, bias })
    };
    let (qkv, out) = (linear("attn.c_attn", [width, 3 * width])?, linear("attn.c_proj", [width; 2])?);
    let (up, down) = (linear("mlp.c_fc", [width, hidden])?, linear("mlp.c_proj", [hidden, width])?);
    let mut norm = |name: &str| norm(tensors, config, &key(name), width).map(Some);
    let attention =
        Attention { norm: norm("ln_1")?, shift: false, qkv, head_norm: None, mask: Mask::Full, out, post_norm: None };
    let mlp = Mlp {
        norm: norm("ln_2")?,
        shift: false,
        up,
        gate: None,
        activation: config.activation_function.activation(),
        mid_norm: None,
        down,
        post_norm: None,
    };
    Ok(Layer { attention, cross: None, mlp })
}

fn norm(tensors: &mut Tensors<'_>, config: &Config, key: &str, width: usize) -> Result<Normalization, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    Ok(Normalization::RootMeanSquare { weight, epsilon: config.layer_norm_epsilon })
}

fn manifest(config: &Config, s: &Sizes, pictures: Pictures) -> Manifest {
    let text = Text {
        tokenizer: None,
        length: 1,
        vocabulary: 1,
        padding: Padding::Token { id: START },
        prefix: vec![START],
        suffix: vec![],
        template: None,
        words: None,
    };
    let head_width = (s.width / config.n_head) as u32;
    Manifest {
        schema: 1,
        name: "image-gpt".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: "A checkpoint of Image GPT. It reads no captions: it completes pictures, or makes them up.".into(),
        family: "image-gpt".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text,
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention: AttentionGeometry { layers: s.layers as u32, heads: config.n_head as u32, head_width },
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: None,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 40.min(pictures.codebook),
            top_p: 1.0,
            guidance_scale: 1.0,
            top_k_ties: Ties::Kept,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
