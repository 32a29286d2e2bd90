//! The family Emu3 (BAAI): a Llama with one vocabulary for text and pictures, whose rows end in a token of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use easel_package::{AttentionGeometry, Grid, Guidance, Manifest, Padding, Sampler, Sampling, Text, Ties};
use serde_json::{Value, json};

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Tensors},
    graph::Graph,
    llama::Config,
    one_vocabulary::{self, Vocabulary},
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tokenizer,
    transformer::{Head, Transformer},
};

const TOKENIZER: &str = "tokenizer.json";
/// The original's vocabulary, and its special tokens.
const RANKS: &str = "emu3.tiktoken";
const SPECIALS: &str = "emu3_vision_tokens.txt";
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/2";
/// Text positions, those of the start and of the picture's size included.
const TEXT_LENGTH: usize = 512;
/// Keys of the model begin with it, and its head: Hugging Face's, older Hugging Face's, the original's.
const LAYOUTS: [(&str, &str); 3] = [
    ("model.text_model.", "lm_head.weight"),
    ("text_model.model.", "text_model.lm_head.weight"),
    ("model.", "lm_head.weight"),
];
/// Of the autoencoder, where it lies in the same file.
const PICTURES: [&str; 2] = ["model.vqmodel.", "vqmodel."];
/// Start of the text, start of a picture, what ends its size, end of a row.
const TOKENS: [&str; 4] = ["<|extra_203|>", "<|image start|>", "<|image token|>", "<|extra_200|>"];
/// Pixels of a picture, where the configuration does not say, and pixels on a side of a token.
const AREA: u64 = 720 * 720;
const SIDE: f64 = 8.0;
/// What the unconditional row is in the original's own examples.
const NEGATIVE: &str = "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry.";

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let path = checkpoint.path().join("config.json");
    let (field, config) = match &checkpoint.config()["text_config"] {
        Value::Null => ("", checkpoint.config()),
        text => ("text_config", text),
    };
    let config = Config::parse(&path, field, &one_vocabulary::completed(config, defaults()))?;
    let grid = grid(&path, checkpoint.config())?;
    let vocabulary = vocabulary(checkpoint, config.vocab_size)?;
    let text = Spelled::new(&vocabulary, grid)?;
    let embedding = |prefix: &str| format!("{prefix}embed_tokens.weight");
    let parts = LAYOUTS.map(|(prefix, head)| (prefix, head, checkpoint.part_with(&[&embedding(prefix), head])));
    let mut found = parts.into_iter().map(|(prefix, head, part)| part.map(|part| (prefix, head, part)));
    let first = found.next().expect("there are layouts");
    let (prefix, head, part) = found.fold(first, |found, next| found.or(next))?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let pictures = pictures(checkpoint.path(), Autoencoder::Emu3, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != text.image.len() {
        let (expected, found) = (text.image.len().to_string(), pictures.codebook.to_string());
        let field = "the codes of the autoencoder, as the vocabulary has them".into();
        return Err(Error::Field { path: part.path().into(), field, expected, found });
    }
    vocabulary.write(&out.join(TOKENIZER), text.words)?;
    let mut tensors = part.tensors("", &mut read);
    tensors.ignore(|key| PICTURES.iter().any(|p| key.starts_with(p)) || key.ends_with(".rotary_emb.inv_freq"));
    let file = out.join(SAMPLER);
    let graph =
        Graph::new("sampler", options.weights, Storage::choose(&file, part.bytes(), options.inline_limit_bytes)?)
            .on(options.device);
    let graph = sampler(graph, &mut tensors, &config, (prefix, head), grid, &text)?;
    tensors.finish(None)?;
    graph.write(&file, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the checkpoint".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&config, text, pictures) })
}

/// Of Emu3's 8 B parameters; configurations leave out what is as here.
fn defaults() -> Value {
    json!({
        "vocab_size": 184_622, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
    })
}

/// What the original makes of a picture's area: a square.
fn grid(path: &Path, config: &Value) -> Result<Grid, Error> {
    let area = config["image_area"].as_u64().unwrap_or(AREA);
    let side = ((area as f64).sqrt() / SIDE).round_ties_even();
    if (1.0..=1024.0).contains(&side) {
        return Ok(Grid { rows: side as u32, columns: side as u32 });
    }
    let (field, expected) = ("image_area".into(), "an area of 1 … 1024 tokens on a side".into());
    Err(Error::Field { path: path.into(), field, expected, found: area.to_string() })
}

/// Hugging Face's vocabulary, or else the original's.
fn vocabulary(checkpoint: &Checkpoint, size: usize) -> Result<Vocabulary, Error> {
    let beside = |name: &str| checkpoint.file(&[name]);
    let absent = || Error::File {
        path: checkpoint.path().into(),
        expected: format!("{TOKENIZER}, or {RANKS} and {SPECIALS}"),
        found: "none".into(),
    };
    let (path, json): (PathBuf, Value) = match (beside(TOKENIZER), beside(RANKS), beside(SPECIALS)) {
        (Some(path), ..) => (path.clone(), tokenizer::tokenizer_json(&path)?),
        (None, Some(ranks), Some(specials)) => (ranks.clone(), tokenizer::emu3(&ranks, &specials)?),
        _ => return Err(absent()),
    };
    Ok(Vocabulary::new(path, json, size))
}

/// Ids around a caption, and those of pictures.
struct Spelled {
    start: u32,
    /// The start of a picture, its rows and columns, and the token behind them.
    suffix: Vec<u32>,
    row_end: u32,
    negative: Vec<u32>,
    /// In the codebook's order.
    image: Vec<u32>,
    /// Ids of the text.
    words: usize,
}

impl Spelled {
    fn new(vocabulary: &Vocabulary, grid: Grid) -> Result<Self, Error> {
        let spell = |text: &str| tokenizer::spell(&vocabulary.path, &vocabulary.json, text);
        let [start, open, close, row_end] = TOKENS.map(|name| vocabulary.id(name));
        let mut suffix = vec![open?];
        suffix.extend(spell(&format!("{}*{}", grid.rows, grid.columns))?);
        suffix.push(close?);
        let code = |name: &str| name.strip_prefix("<|visual token ")?.strip_suffix("|>")?.parse().ok();
        let image = vocabulary.image(code)?;
        let words = vocabulary.words(&image);
        Ok(Self { start: start?, suffix, row_end: row_end?, negative: spell(NEGATIVE)?, image, words })
    }
}

fn sampler(
    graph: Graph,
    tensors: &mut Tensors<'_>,
    c: &Config,
    (prefix, head): (&str, &str),
    grid: Grid,
    text: &Spelled,
) -> Result<Graph, Error> {
    let [rows, columns] = [grid.rows as usize, grid.columns as usize + 1];
    let sizes = [text.words, TEXT_LENGTH + rows * columns];
    let embedding = one_vocabulary::embedding(tensors, c, prefix, sizes, [&text.image, &[text.row_end]])?;
    let geometry = c.geometry(TEXT_LENGTH, [rows, columns], text.image.len());
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for i in 0..c.num_hidden_layers {
        transformer.layer(&c.layer(tensors, prefix, i)?)?;
    }
    let norms = vec![c.norm(tensors, &format!("{prefix}norm"))?];
    let linear = one_vocabulary::head(tensors, c, head, &text.image)?;
    transformer.finish(&Head { norms, inner: None, linear })
}

fn manifest(c: &Config, text: Spelled, pictures: Pictures) -> Manifest {
    let attention = AttentionGeometry {
        layers: c.num_hidden_layers as u32,
        heads: c.key_heads() as u32,
        head_width: c.head_width() as u32,
    };
    Manifest {
        schema: 1,
        name: "emu3".into(),
        version: "1".into(),
        license: "Apache-2.0".into(),
        description: "A checkpoint of Emu3-Gen.".into(),
        family: "emu3".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: TEXT_LENGTH as u32,
            vocabulary: text.words as u32,
            padding: Padding::None,
            prefix: vec![text.start],
            suffix: text.suffix,
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention,
            row_end: vec![pictures.codebook],
            shift: None,
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: text.negative }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: 2048.min(pictures.codebook),
            top_p: 1.0,
            guidance_scale: 3.0,
            top_k_ties: Ties::Kept,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
