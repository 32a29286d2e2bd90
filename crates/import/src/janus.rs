//! The families Janus and Janus-Pro (DeepSeek): a Llama that reads a chat, with a head and an embedding of its own for image tokens.

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{AttentionGeometry, Grid, Guidance, Manifest, Padding, Sampler, Sampling, Template, Text, Ties};
use serde_json::Value;

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Tensors},
    graph::Graph,
    layers::{Activation, Linear},
    llama::{self, Config},
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tokenizer,
    transformer::{Embedding, Head, ImageEmbedding, Transformer},
};

const TOKENIZER: &str = "tokenizer.json";
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/2";
/// Text positions, the chat's own included.
const TEXT_LENGTH: usize = 512;
/// Layers between a code and its embedding.
const MOST_LAYERS: usize = 16;
/// The tokens of the chat: start, user, assistant, start of an image, pad.
const TOKENS: [&str; 5] = ["<｜begin▁of▁sentence｜>", "<|User|>", "<|Assistant|>", "<begin_of_image>", "<｜▁pad▁｜>"];

/// The keys of one of its two layouts.
struct Layout {
    /// The language model.
    model: &'static str,
    codes: &'static str,
    /// The layers behind the codes: the first, and those that follow, counted from 0.
    aligner: fn(usize) -> String,
    head: [&'static str; 2],
    /// Where in the configuration the language model's is.
    text: &'static str,
}

/// Hugging Face's.
const HUGGING_FACE: Layout = Layout {
    model: "model.language_model.",
    codes: "model.generation_embeddings.weight",
    aligner: |i| match i {
        0 => "model.generation_aligner.fc1".into(),
        i => format!("model.generation_aligner.hidden_layers.{}", i - 1),
    },
    head: ["model.generation_head.proj_out", "model.generation_head.vision_head"],
    text: "text_config",
};

/// DeepSeek's own.
const ORIGINAL: Layout = Layout {
    model: "language_model.model.",
    codes: "gen_embed.weight",
    aligner: |i| format!("gen_aligner.layers.{}", 2 * i),
    head: ["gen_head.output_mlp_projector", "gen_head.vision_head"],
    text: "language_config",
};

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let path = checkpoint.path().join("config.json");
    let (layout, part) = match checkpoint.part_with(&[ORIGINAL.codes]) {
        Ok(part) => (ORIGINAL, part),
        Err(_) => (HUGGING_FACE, checkpoint.part_with(&[HUGGING_FACE.codes])?),
    };
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let config = Config::parse(&path, layout.text, &checkpoint.config()[layout.text])?;
    let side = side(&path, checkpoint.config())?;
    let chat = chat(checkpoint, out, config.vocab_size)?;
    let grid = Grid { rows: side as u32, columns: side as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::Janus, grid, out, options, &mut |_| read(0))?;
    let mut tensors = part.tensors("", &mut read);
    let file = out.join(SAMPLER);
    let graph =
        Graph::new("sampler", options.weights, Storage::choose(&file, part.bytes(), options.inline_limit_bytes)?)
            .on(options.device);
    let (graph, codebook) = sampler(graph, &mut tensors, &layout, &config, side)?;
    graph.write(&file, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    if pictures.codebook as usize != codebook {
        let (expected, found) = (codebook.to_string(), pictures.codebook.to_string());
        let field = "the codes of the autoencoder, as the image head has them".into();
        return Err(Error::Field { path: part.path().into(), field, expected, found });
    }
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the checkpoint".into(), part.digest(&mut || read(0))?),
    ]);
    let attention = config.geometry(TEXT_LENGTH, [side; 2], codebook);
    let attention = AttentionGeometry {
        layers: attention.layers as u32,
        heads: attention.heads as u32,
        head_width: attention.head_width as u32,
    };
    Ok(Manifest { provenance, ..manifest(&config, attention, chat, pictures) })
}

/// Rows, and columns, of the grid.
fn side(path: &Path, config: &Value) -> Result<usize, Error> {
    let patches = config["vq_config"]["num_patches"].as_u64();
    let pixels = config["gen_vision_config"]["params"]["image_size"].as_u64().unwrap_or(384) / 16;
    let side = patches.unwrap_or(pixels);
    if (1..=1024).contains(&side) {
        return Ok(side as usize);
    }
    let (field, expected) = ("vq_config.num_patches".into(), "1 … 1024".into());
    Err(Error::Field { path: path.into(), field, expected, found: side.to_string() })
}

/// The graph, and the number of image tokens.
fn sampler(
    graph: Graph,
    tensors: &mut Tensors<'_>,
    layout: &Layout,
    c: &Config,
    side: usize,
) -> Result<(Graph, usize), Error> {
    let [codebook, _] = tensors.shape(&format!("{}.weight", layout.head[1]))?;
    let embedding = Embedding {
        text: tensors.take(&format!("{}embed_tokens.weight", layout.model), &[c.vocab_size, c.hidden_size])?,
        image: image_embedding(tensors, layout, codebook, c.hidden_size)?,
        position: None,
        norm: None,
        rotary: Some(c.rotary(TEXT_LENGTH + side * side)),
    };
    let mut transformer = Transformer::start(graph, c.geometry(TEXT_LENGTH, [side; 2], codebook), embedding)?;
    for i in 0..c.num_hidden_layers {
        transformer.layer(&c.layer(tensors, layout.model, i)?)?;
    }
    let norms = vec![c.norm(tensors, &format!("{}norm", layout.model))?];
    let [inner, last] = layout.head;
    let [width, _] = tensors.shape(&format!("{inner}.weight"))?;
    let inner = (llama::linear(tensors, inner, [width, c.hidden_size], true)?, Activation::Gelu);
    let linear = llama::linear(tensors, last, [codebook, width], true)?;
    Ok((transformer.finish(&Head { norms, inner: Some(inner), linear })?, codebook))
}

fn image_embedding(
    tensors: &mut Tensors<'_>,
    layout: &Layout,
    codebook: usize,
    width: usize,
) -> Result<ImageEmbedding, Error> {
    let [_, mut inputs] = tensors.shape(layout.codes)?;
    let codes = tensors.take(layout.codes, &[codebook, inputs])?;
    let mut layers: Vec<Linear> = Vec::new();
    while layers.len() < MOST_LAYERS && tensors.contains(&format!("{}.weight", (layout.aligner)(layers.len()))) {
        let key = (layout.aligner)(layers.len());
        layers.push(llama::linear(tensors, &key, [width, inputs], true)?);
        inputs = width;
    }
    Ok(ImageEmbedding::Codes { codes, layers, activation: Activation::Gelu })
}

/// Ids of the chat that lies around a caption.
struct Chat {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    pad: u32,
}

/// Copies the vocabulary without what it adds to a text by itself, and finds the chat's tokens in it.
fn chat(checkpoint: &Checkpoint, out: &Path, size: usize) -> Result<Chat, Error> {
    let path = checkpoint.file(&[TOKENIZER]).unwrap_or_else(|| checkpoint.path().join(TOKENIZER));
    let mut json = tokenizer::tokenizer_json(&path)?;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("post_processor".into(), Value::Null);
    }
    let added = json["added_tokens"].as_array().cloned().unwrap_or_default();
    let id = |name: &str| {
        let added = added.iter().find(|token| token["content"] == name).and_then(|token| token["id"].as_u64());
        let id = added.or_else(|| json["model"]["vocab"][name].as_u64()).filter(|id| *id < size as u64);
        id.map(|id| id as u32).ok_or_else(|| Error::File {
            path: path.clone(),
            expected: format!("the token {name}, with an id below {size}"),
            found: "none".into(),
        })
    };
    let [start, user, assistant, image, pad] = TOKENS.map(id);
    let chat = Chat { prefix: vec![start?, user?], suffix: vec![assistant?, id(":")?, image?], pad: pad? };
    let file = out.join(TOKENIZER);
    fs::write(&file, json.to_string()).map_err(|source| Error::Io { path: file, source })?;
    Ok(chat)
}

fn manifest(c: &Config, attention: AttentionGeometry, chat: Chat, pictures: Pictures) -> Manifest {
    Manifest {
        schema: 1,
        name: "janus".into(),
        version: "1".into(),
        license: "LicenseRef-DeepSeek-Model".into(),
        description: "A checkpoint of Janus or Janus-Pro.".into(),
        family: "janus".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: TEXT_LENGTH as u32,
            vocabulary: c.vocab_size as u32,
            padding: Padding::None,
            prefix: chat.prefix,
            suffix: chat.suffix,
            template: Some(Template { before: ": ".into(), after: "\n\n".into() }),
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
        guidance: Some(Guidance::Blank { id: chat.pad, first: 1, last: 1 }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            guidance_scale: 5.0,
            top_k_ties: Ties::Kept,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
