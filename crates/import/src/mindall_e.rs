//! The family `mindall-e`: Kakao Brain's minDALL-E, `stage1_last.ckpt` (the autoencoder) and `stage2_last.ckpt` (the transformer) in one folder.

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{AttentionGeometry, Grid, Manifest, Padding, Sampler, Sampling, Text, Ties};
use serde_json::Value;

use crate::{
    Error, ImportOptions, Mask, Progress,
    checkpoint::{Checkpoint, Tensors},
    graph::Graph,
    layers::{Activation, Norm, Normalization},
    llama,
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tensor::Tensor,
    tokenizer,
    transformer::{Attention, Count, Embedding, Geometry, Head, ImageEmbedding, Layer, Mlp, Streams, Transformer},
    vocabulary,
};

const TOKENIZER: &str = "tokenizer.json";
const VOCAB: [&str; 3] = ["tokenizer/bpe-16k-vocab.json", "bpe-16k-vocab.json", "vocab.json"];
const MERGES: [&str; 3] = ["tokenizer/bpe-16k-merges.txt", "bpe-16k-merges.txt", "merges.txt"];
const PAD: &str = "[PAD]";
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/1";
const NORM_EPSILON: f32 = 1e-5;
/// Of the published model; the weights do not tell.
const HEAD_WIDTH: usize = 64;

/// Sizes that the tensors and the configuration tell.
struct Sizes {
    width: usize,
    heads: usize,
    layers: usize,
    text_length: usize,
    text_ids: usize,
    side: usize,
    codebook: usize,
    activation: Activation,
}

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let part = checkpoint.part_with(&["tok_emb_img.weight", "tok_emb_txt.weight", "head_img.weight"])?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let sizes = sizes(checkpoint, &part.tensors("", &mut read))?;
    let grid = Grid { rows: sizes.side as u32, columns: sizes.side as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::MinDallE, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != sizes.codebook {
        let (expected, found) = (sizes.codebook.to_string(), pictures.codebook.to_string());
        let field = "image tokens of the autoencoder (as tok_emb_img has them)".into();
        return Err(Error::Field { path: checkpoint.path().into(), field, expected, found });
    }
    let pad = write_vocabulary(checkpoint, out, &sizes)?;
    let mut tensors = part.tensors("", &mut read);
    tensors.ignore(|key| key.starts_with("head_txt.") || key.ends_with(".attn.mask"));
    let path = out.join(SAMPLER);
    let storage = Storage::choose(&path, part.bytes(), options.inline_limit_bytes)?;
    let graph = build(Graph::new("sampler", options.weights, storage).on(options.device), &mut tensors, &sizes)?;
    tensors.finish(None)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the transformer".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&sizes, pad, pictures) })
}

fn sizes(checkpoint: &Checkpoint, tensors: &Tensors<'_>) -> Result<Sizes, Error> {
    let [text_ids, width] = tensors.shape("tok_emb_txt.weight")?;
    let [text_length, _] = tensors.shape("pos_emb_txt.weight")?;
    let [cells, _] = tensors.shape("pos_emb_img.weight")?;
    let [codebook, _] = tensors.shape("tok_emb_img.weight")?;
    let side = cells.isqrt();
    if side * side != cells || side > 1024 || text_length > 4096 {
        let expected = "a square of at most 1024 × 1024 behind at most 4096 text positions".into();
        let found = format!("{cells} behind {text_length}");
        return Err(tensors.wrong("pos_emb_img.weight", expected, found));
    }
    let layers = (0..1024).take_while(|i| tensors.contains(&format!("blocks.{i}.ln1.weight"))).count();
    let hparams = &checkpoint.config()["stage2"]["hparams"];
    let heads = match &hparams["n_heads"] {
        Value::Null => width / HEAD_WIDTH,
        heads => heads.as_u64().unwrap_or(0) as usize,
    };
    if !(1..=1024).contains(&heads) || !width.is_multiple_of(heads) {
        let (expected, found) = (format!("a divisor of {width}, at most 1024"), hparams["n_heads"].to_string());
        let field = "stage2.hparams.n_heads".into();
        return Err(Error::Field { path: checkpoint.path().into(), field, expected, found });
    }
    let approximate = hparams["gelu_use_approx"].as_bool().unwrap_or(false);
    let activation = if approximate { Activation::QuickGelu } else { Activation::Gelu };
    Ok(Sizes { width, heads, layers, text_length, text_ids, side, codebook, activation })
}

fn build(graph: Graph, tensors: &mut Tensors<'_>, s: &Sizes) -> Result<Graph, Error> {
    let (head_width, cells) = (s.width / s.heads, s.side * s.side);
    let geometry = Geometry {
        width: s.width,
        heads: s.heads,
        query_heads: s.heads,
        head_width,
        layers: s.layers,
        text_length: s.text_length,
        mask_text_length: s.text_length,
        rows: s.side,
        columns: s.side,
        codebook: s.codebook,
        kernel: 0,
        attention_scale: (head_width as f32).powf(-0.5),
        streams: Streams::One,
        count: Count::Positions,
    };
    let mut position = tensors.take("pos_emb_txt.weight", &[s.text_length, s.width])?.values;
    position.extend(tensors.take("pos_emb_img.weight", &[cells, s.width])?.values);
    let embedding = Embedding {
        text: tensors.take("tok_emb_txt.weight", &[s.text_ids, s.width])?,
        image: ImageEmbedding::Table(tensors.take("tok_emb_img.weight", &[s.codebook, s.width])?),
        position: Some(Tensor::new("position", &[s.text_length + cells, s.width], position)),
        norm: None,
        rotary: None,
    };
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for i in 0..s.layers {
        transformer.layer(&layer(tensors, s, i)?)?;
    }
    let norms = vec![norm(tensors, "ln_f", s.width)?];
    let linear = llama::linear(tensors, "head_img", [s.codebook, s.width], false)?;
    transformer.finish(&Head { norms, inner: None, linear })
}

fn layer(tensors: &mut Tensors<'_>, s: &Sizes, i: usize) -> Result<Layer, Error> {
    let key = |name: &str| format!("blocks.{i}.{name}");
    let mut linear = |name: &str, shape: [usize; 2]| {
        let bias = tensors.contains(&key(&format!("{name}.bias")));
        llama::linear(tensors, &key(name), shape, bias)
    };
    let square = [s.width; 2];
    let qkv =
        llama::joined(&[linear("attn.query", square)?, linear("attn.key", square)?, linear("attn.value", square)?]);
    let out = linear("attn.proj", square)?;
    let (up, down) = (linear("mlp.0", [4 * s.width, s.width])?, linear("mlp.2", [s.width, 4 * s.width])?);
    let mut norm = |name: &str| norm(tensors, &key(name), s.width).map(Some);
    let attention =
        Attention { norm: norm("ln1")?, shift: false, qkv, head_norm: None, mask: Mask::Full, out, post_norm: None };
    let mlp = Mlp {
        norm: norm("ln2")?,
        shift: false,
        up,
        gate: None,
        activation: s.activation,
        mid_norm: None,
        down,
        post_norm: None,
    };
    Ok(Layer { attention, cross: None, mlp })
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize) -> Result<Normalization, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    let bias = tensors.take(&format!("{key}.bias"), &[width])?;
    Ok(Normalization::Layer(Norm { weight, bias, epsilon: NORM_EPSILON }))
}

/// Writes the vocabulary and gives the pad's id: the next one where the file does not name it, as the original adds it then.
fn write_vocabulary(checkpoint: &Checkpoint, out: &Path, s: &Sizes) -> Result<u32, Error> {
    let [vocab, merges] = [VOCAB, MERGES].map(|names| {
        checkpoint.file(&names).ok_or_else(|| Error::File {
            path: checkpoint.path().into(),
            expected: names.join(" or "),
            found: "none".into(),
        })
    });
    let (vocab, merges) = (vocab?, merges?);
    let json = tokenizer::char_bpe(&vocab, &merges)?;
    vocabulary::sampler_json(&vocab, &json, s.text_ids)?;
    let pieces = &json["model"]["vocab"];
    let next = pieces.as_object().map_or(0, serde_json::Map::len) as u64;
    let pad = pieces[PAD].as_u64().unwrap_or(next);
    if pad >= s.text_ids as u64 {
        let (expected, found) = (format!("a pad below {}", s.text_ids), pad.to_string());
        return Err(Error::Field { path: vocab, field: PAD.into(), expected, found });
    }
    let file = out.join(TOKENIZER);
    fs::write(&file, json.to_string()).map_err(|source| Error::Io { path: file, source })?;
    Ok(pad as u32)
}

fn manifest(s: &Sizes, pad: u32, pictures: Pictures) -> Manifest {
    let (heads, head_width) = (s.heads as u32, (s.width / s.heads) as u32);
    Manifest {
        schema: 1,
        name: "mindall-e".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: "A checkpoint of minDALL-E.".into(),
        family: "mindall-e".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: s.text_length as u32,
            vocabulary: s.text_ids as u32,
            padding: Padding::Token { id: pad },
            prefix: vec![],
            suffix: vec![],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention: AttentionGeometry { layers: s.layers as u32, heads, head_width },
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: None,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 256.min(pictures.codebook),
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
