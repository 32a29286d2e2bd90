//! The family Chameleon (Meta), in Hugging Face's layout: a Llama with one vocabulary for text and pictures, and norms of its own on queries and keys.

use std::{collections::BTreeMap, path::Path};

use easel_package::{AttentionGeometry, Grid, Guidance, Manifest, Padding, Sampler, Sampling, Text, Ties};
use serde_json::{Value, json};

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Tensors},
    graph::Graph,
    layers::Norm,
    llama::Config,
    one_vocabulary::{self, Vocabulary},
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tensor::Tensor,
    tokenizer,
    transformer::{Head, HeadNorm, Layer, Transformer},
};

const TOKENIZER: &str = "tokenizer.json";
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/2";
/// Text positions, those of the two tokens around a caption included.
const TEXT_LENGTH: usize = 512;
const MODEL: &str = "model.";
const HEAD: &str = "lm_head.weight";
/// Half of the autoencoder lies in the same file; the whole is in another.
const PICTURES: &str = "model.vqmodel.";
const START: &str = "<s>";
const IMAGE: &str = "<racm3:break>";
/// Of the norms of queries and keys.
const EPSILON: f32 = 1e-5;

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let path = checkpoint.path().join("config.json");
    let config = Config::parse(&path, "", &one_vocabulary::completed(checkpoint.config(), defaults()))?;
    let grid = grid(&path, &checkpoint.config()["vq_config"])?;
    let file = checkpoint.file(&[TOKENIZER]).unwrap_or_else(|| checkpoint.path().join(TOKENIZER));
    let json = tokenizer::tokenizer_json(&file)?;
    let vocabulary = Vocabulary::new(file, json, config.vocab_size);
    let (start, open, image) = (vocabulary.id(START)?, vocabulary.id(IMAGE)?, vocabulary.image(code)?);
    let words = vocabulary.words(&image);
    let part = checkpoint.part_with(&[&format!("{MODEL}embed_tokens.weight"), HEAD])?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let pictures = pictures(checkpoint.path(), Autoencoder::Chameleon, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != image.len() {
        let (expected, found) = (image.len().to_string(), pictures.codebook.to_string());
        let field = "the codes of the autoencoder, as the vocabulary has them".into();
        return Err(Error::Field { path: part.path().into(), field, expected, found });
    }
    vocabulary.write(&out.join(TOKENIZER), words)?;
    let mut tensors = part.tensors("", &mut read);
    tensors.ignore(|key| key.starts_with(PICTURES) || key.ends_with(".rotary_emb.inv_freq"));
    let file = out.join(SAMPLER);
    let graph =
        Graph::new("sampler", options.weights, Storage::choose(&file, part.bytes(), options.inline_limit_bytes)?)
            .on(options.device);
    let behind = checkpoint.config()["swin_norm"].as_bool().unwrap_or(false);
    let graph = sampler(graph, &mut tensors, (&config, behind), grid, (words, &image))?;
    tensors.finish(None)?;
    graph.write(&file, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the checkpoint".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&config, [start, open], words, pictures) })
}

/// Of the 7 B parameters; configurations leave out what is as here.
fn defaults() -> Value {
    json!({"vocab_size": 65_536, "rms_norm_eps": 1e-5})
}

/// The code that an image token is of, by its name: `IMGIMG`, its digits as letters from A on, and a Z.
fn code(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("IMGIMG")?.strip_suffix('Z')?;
    let digits: Option<String> =
        digits.chars().map(|c| matches!(c, 'A'..='J').then(|| char::from(c as u8 - b'A' + b'0'))).collect();
    digits?.parse().ok()
}

/// What is left of a picture's side after as many halvings as the autoencoder has.
fn grid(path: &Path, config: &Value) -> Result<Grid, Error> {
    let pixels = config["resolution"].as_u64().unwrap_or(512);
    let levels = config["channel_multiplier"].as_array().map_or(5, Vec::len);
    let side = pixels.checked_shr(levels.saturating_sub(1) as u32).unwrap_or(0);
    if (1..=1024).contains(&side) {
        return Ok(Grid { rows: side as u32, columns: side as u32 });
    }
    let (field, expected) = ("vq_config.resolution".into(), "a picture of 1 … 1024 tokens on a side".into());
    Err(Error::Field { path: path.into(), field, expected, found: pixels.to_string() })
}

fn sampler(
    graph: Graph,
    tensors: &mut Tensors<'_>,
    (c, behind): (&Config, bool),
    grid: Grid,
    (words, image): (usize, &[u32]),
) -> Result<Graph, Error> {
    let sides = [grid.rows as usize, grid.columns as usize];
    let sizes = [words, TEXT_LENGTH + grid.cells()];
    let embedding = one_vocabulary::embedding(tensors, c, MODEL, sizes, [image, &[]])?;
    let mut transformer = Transformer::start(graph, c.geometry(TEXT_LENGTH, sides, image.len()), embedding)?;
    for i in 0..c.num_hidden_layers {
        transformer.layer(&layer(tensors, c, i, behind)?)?;
    }
    let norms = vec![c.norm(tensors, &format!("{MODEL}norm"))?];
    let linear = one_vocabulary::head(tensors, c, HEAD, image)?;
    transformer.finish(&Head { norms, inner: None, linear })
}

/// Layer `i`; with its norms `behind` attention and MLP (`swin_norm`, as of the 30 B parameters), not before them.
fn layer(tensors: &mut Tensors<'_>, c: &Config, i: usize, behind: bool) -> Result<Layer, Error> {
    let mut layer = c.layer(tensors, MODEL, i)?;
    let width = c.head_width();
    let mut both = |name: &str| {
        let mut take = |part: &str, heads: usize| {
            tensors.take(&format!("{MODEL}layers.{i}.self_attn.{part}_norm.{name}"), &[heads, width])
        };
        let (queries, keys) = (take("q", c.num_attention_heads)?, take("k", c.key_heads())?);
        let values = [queries.values, keys.values].concat();
        Ok::<_, Error>(Tensor::new(queries.name, &[values.len() / width, width], values))
    };
    let norm = Norm { weight: both("weight")?, bias: both("bias")?, epsilon: EPSILON };
    layer.attention.head_norm = Some(HeadNorm::Layer(norm));
    if behind {
        layer.attention.post_norm = layer.attention.norm.take();
        layer.mlp.post_norm = layer.mlp.norm.take();
    }
    Ok(layer)
}

fn manifest(c: &Config, [start, open]: [u32; 2], words: usize, pictures: Pictures) -> Manifest {
    let attention = AttentionGeometry {
        layers: c.num_hidden_layers as u32,
        heads: c.key_heads() as u32,
        head_width: c.head_width() as u32,
    };
    Manifest {
        schema: 1,
        name: "chameleon".into(),
        version: "1".into(),
        license: "LicenseRef-Chameleon-Research".into(),
        description: "A checkpoint of Chameleon.".into(),
        family: "chameleon".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: TEXT_LENGTH as u32,
            vocabulary: words as u32,
            padding: Padding::None,
            prefix: vec![start],
            suffix: vec![open],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention,
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: Sampling {
            temperature: 0.7,
            top_k: 0,
            top_p: 0.9,
            guidance_scale: 3.0,
            top_k_ties: Ties::Cut,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
