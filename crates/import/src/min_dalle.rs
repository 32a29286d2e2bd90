//! The family min-dalle: DALL·E Mini and Mega, a text encoder and a decoder in files of their own (`encoder.pt`, `decoder.pt`, `detoker.pt`).

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{AttentionGeometry, Grid, Guidance, Manifest, Padding, Sampler, Sampling, Text, TextEncoder, Ties};
use serde_json::Value;

use crate::{
    Error, ImportOptions, Mask, Progress,
    checkpoint::{Checkpoint, Part, Tensors},
    graph::Graph,
    layers::{Activation, Linear, Norm, Normalization},
    llama,
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tensor::Tensor,
    tokenizer,
    transformer::{
        Attention, Count, CrossAttention, Embedding, Encoder, Geometry, Head, ImageEmbedding, Layer, Mlp, Streams,
        Transformer,
    },
};

const TOKENIZER: &str = "tokenizer.json";
const SAMPLER: &str = "sampler.onnx";
const ENCODER: &str = "text_encoder.onnx";
const CONTRACT: &str = "easel.sampler/2";
const ENCODER_CONTRACT: &str = "easel.text_encoder/1";
/// Both models have heads of this width; the files do not tell.
const HEAD_WIDTH: usize = 64;
const NORM_EPSILON: f32 = 1e-5;
/// Rows, and columns, of the grid.
const SIDE: usize = 16;
/// Of the image ids, those that are drawn.
const CODEBOOK: usize = 1 << 14;
/// What the decoder begins with, where no configuration says otherwise (min-dalle 0.4.11).
const START: u64 = (1 << 14) - 1;
/// Ids of `<s>` and `</s>`.
const ENDS: [u32; 2] = [0, 2];

/// Sizes that the tensors tell.
struct Sizes {
    width: usize,
    hidden: usize,
    layers: usize,
    text_ids: usize,
    text_length: usize,
}

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let decoder = checkpoint.part_with(&["lm_head.weight", "final_ln.weight"])?;
    let encoder = text_encoder(checkpoint)?;
    let (mut read_bytes, total_bytes) = (0, decoder.bytes() + encoder.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    vocabulary(checkpoint, out)?;
    let grid = Grid { rows: SIDE as u32, columns: SIDE as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::MinDalle, grid, out, options, &mut |_| read(0))?;
    let graph = |part: &Part, file: &str| {
        let storage = Storage::choose(&out.join(file), part.bytes(), options.inline_limit_bytes)?;
        Ok::<_, Error>(Graph::new(file.trim_end_matches(".onnx"), options.weights, storage))
    };
    let mut tensors = decoder.tensors("", &mut read);
    let start = checkpoint.config()["decoder_start_token_id"].as_u64().unwrap_or(START);
    let (built, keys_values) = self::decoder(graph(&decoder, SAMPLER)?, &mut tensors, start as usize, &encoder)?;
    tensors.finish(None)?;
    built.write(&out.join(SAMPLER), &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let mut tensors = encoder.tensors("", &mut read);
    let sizes = sizes(&tensors)?;
    let built = self::encoder(graph(&encoder, ENCODER)?, &mut tensors, &sizes, &keys_values)?;
    tensors.finish(None)?;
    built.write(&out.join(ENCODER), &BTreeMap::from([("easel.contract", ENCODER_CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the encoder".into(), encoder.digest(&mut || read(0))?),
        ("sha256 of the decoder".into(), decoder.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&sizes, keys_values.len(), pictures) })
}

/// The part with the encoder, whose keys are among the decoder's.
fn text_encoder(checkpoint: &Checkpoint) -> Result<Part, Error> {
    let encodes = |part: &Part| {
        let has = |key: &str| part.entries().contains_key(key);
        has("layernorm_embedding.weight") && has("layers.0.glu.fc0.weight") && !has("lm_head.weight")
    };
    checkpoint.find(encodes, || "a text encoder (encoder.pt) beside the decoder".into())
}

fn sizes(tensors: &Tensors<'_>) -> Result<Sizes, Error> {
    let [text_ids, width] = tensors.shape("embed_tokens.weight")?;
    let [text_length, _] = tensors.shape("embed_positions.weight")?;
    let [hidden, _] = tensors.shape("layers.0.glu.fc0.weight")?;
    let layers = (0..1024).take_while(|i| tensors.contains(&format!("layers.{i}.glu.fc0.weight"))).count();
    if width % HEAD_WIDTH != 0 || text_length > 4095 {
        let found = format!("{width} wide, {text_length} positions");
        return Err(tensors.wrong("embed_positions.weight", format!("heads of {HEAD_WIDTH}, 4095 at most"), found));
    }
    Ok(Sizes { width, hidden, layers, text_ids, text_length })
}

/// The decoder's graph, and the maps that make the keys and values of its layers from what the encoder gives.
fn decoder(
    graph: Graph,
    tensors: &mut Tensors<'_>,
    start: usize,
    encoder: &Part,
) -> Result<(Graph, Vec<[Linear; 2]>), Error> {
    let text_length = self::sizes(&encoder.tensors("", &mut |_| ()))?.text_length;
    let sizes = sizes(tensors)?;
    let tokens = tensors.take("embed_tokens.weight", &[sizes.text_ids, sizes.width])?;
    if start >= sizes.text_ids || sizes.text_ids < CODEBOOK {
        let expected = format!("{CODEBOOK} image ids, and the one that comes first, {start}");
        return Err(tensors.wrong("embed_tokens.weight", expected, format!("{} ids", sizes.text_ids)));
    }
    let positions = tensors.take("embed_positions.weight", &[sizes.text_length, sizes.width])?;
    // The encoder's positions come first, and are never looked up.
    let unused = vec![0.0; text_length * sizes.width];
    let table = [unused, positions.values].concat();
    let embedding = Embedding {
        text: tokens.rows_of(start..start + 1),
        image: ImageEmbedding::Table(tokens.rows_of(0..CODEBOOK)),
        position: Some(Tensor::new("position", &[text_length + sizes.text_length, sizes.width], table)),
        norm: Some(norm(tensors, "layernorm_embedding", sizes.width)?),
        rotary: None,
    };
    let geometry = Geometry {
        width: sizes.width,
        heads: sizes.width / HEAD_WIDTH,
        query_heads: sizes.width / HEAD_WIDTH,
        head_width: HEAD_WIDTH,
        layers: sizes.layers,
        text_length: text_length + 1,
        mask_text_length: text_length,
        rows: SIDE,
        columns: SIDE,
        codebook: CODEBOOK,
        kernel: 0,
        attention_scale: scale(),
        streams: Streams::One,
        count: Count::Positions,
    };
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    let mut keys_values = Vec::new();
    for i in 0..sizes.layers {
        let (attention, mlp) = layer(tensors, &sizes, i)?;
        let square = [sizes.width; 2];
        let mut map =
            |name: &str| llama::linear(tensors, &format!("layers.{i}.encoder_attn.{name}_proj"), square, false);
        keys_values.push([map("k")?, map("v")?]);
        let (query, out) = (map("q")?, map("out")?);
        let mut norm = |name: &str| self::norm(tensors, &format!("layers.{i}.{name}"), sizes.width);
        let cross = CrossAttention {
            norm: Some(norm("pre_encoder_attn_layer_norm")?),
            query,
            out,
            post_norm: Some(norm("encoder_attn_layer_norm")?),
        };
        transformer.layer(&Layer { attention, cross: Some(cross), mlp })?;
    }
    let norms = vec![norm(tensors, "final_ln", sizes.width)?];
    let weight = tensors.take("lm_head.weight", &[sizes.text_ids, sizes.width])?.rows_of(0..CODEBOOK);
    let head = Head { norms, inner: None, linear: Linear { weight, bias: None } };
    Ok((transformer.finish(&head)?, keys_values))
}

fn encoder(
    graph: Graph,
    tensors: &mut Tensors<'_>,
    sizes: &Sizes,
    keys_values: &[[Linear; 2]],
) -> Result<Graph, Error> {
    let tokens = tensors.take("embed_tokens.weight", &[sizes.text_ids, sizes.width])?;
    let positions = tensors.take("embed_positions.weight", &[sizes.text_length, sizes.width])?;
    let first = norm(tensors, "layernorm_embedding", sizes.width)?;
    let mut encoder = Encoder::start(graph, sizes.width / HEAD_WIDTH, [&tokens, &positions], &first)?;
    for i in 0..sizes.layers {
        let (attention, mlp) = layer(tensors, sizes, i)?;
        encoder.layer(&attention, &mlp, scale())?;
    }
    encoder.finish(&norm(tensors, "final_ln", sizes.width)?, keys_values)
}

fn scale() -> f32 {
    (HEAD_WIDTH as f32).powf(-0.5)
}

/// What the layers of both have: attention to their own tokens, and the gated MLP.
fn layer(tensors: &mut Tensors<'_>, sizes: &Sizes, i: usize) -> Result<(Attention, Mlp), Error> {
    let (width, hidden) = (sizes.width, sizes.hidden);
    let key = |name: &str| format!("layers.{i}.{name}");
    let mut linear = |name: &str, shape: [usize; 2]| llama::linear(tensors, &key(name), shape, false);
    let [query, keys, values] = ["q", "k", "v"].map(|name| linear(&format!("self_attn.{name}_proj"), [width, width]));
    let qkv = llama::joined(&[query?, keys?, values?]);
    let out = linear("self_attn.out_proj", [width, width])?;
    let (gate, up) = (linear("glu.fc0", [hidden, width])?, linear("glu.fc1", [hidden, width])?);
    let down = linear("glu.fc2", [width, hidden])?;
    let mut norm = |name: &str, width: usize| norm(tensors, &key(name), width).map(Some);
    let attention = Attention {
        norm: norm("pre_self_attn_layer_norm", width)?,
        shift: false,
        qkv,
        head_norm: None,
        mask: Mask::Full,
        out,
        post_norm: norm("self_attn_layer_norm", width)?,
    };
    let mlp = Mlp {
        norm: norm("glu.ln0", width)?,
        shift: false,
        up,
        gate: Some(gate),
        activation: Activation::Gelu,
        mid_norm: norm("glu.ln1", hidden)?,
        down,
        post_norm: None,
    };
    Ok((attention, mlp))
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize) -> Result<Normalization, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    let bias = tensors.take(&format!("{key}.bias"), &[width])?;
    Ok(Normalization::Layer(Norm { weight, bias, epsilon: NORM_EPSILON }))
}

/// The vocabulary, without the ends that it puts around a text: they are in the manifest.
fn vocabulary(checkpoint: &Checkpoint, out: &Path) -> Result<(), Error> {
    let files = ["vocab.json", "merges.txt"].map(|name| {
        checkpoint.file(&[name]).ok_or_else(|| Error::File {
            path: checkpoint.path().into(),
            expected: format!("{name} beside the weights"),
            found: "none".into(),
        })
    });
    let [vocab, merges] = files;
    let mut json = tokenizer::min_dalle(&vocab?, &merges?)?;
    if let Some(fields) = json.as_object_mut() {
        fields.insert("post_processor".into(), Value::Null);
    }
    let file = out.join(TOKENIZER);
    fs::write(&file, json.to_string()).map_err(|source| Error::Io { path: file, source })
}

fn manifest(sizes: &Sizes, layers: usize, pictures: Pictures) -> Manifest {
    let heads = (sizes.width / HEAD_WIDTH) as u32;
    let [start, end] = ENDS;
    Manifest {
        schema: 1,
        name: "min-dalle".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: "A checkpoint of DALL·E Mini or Mega.".into(),
        family: "min-dalle".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: sizes.text_length as u32 + 1,
            vocabulary: sizes.text_ids as u32,
            padding: Padding::None,
            prefix: vec![start],
            // The decoder's only text id, 0, is the token that it begins with.
            suffix: vec![end, 0],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention: AttentionGeometry { layers: layers as u32, heads, head_width: HEAD_WIDTH as u32 },
            row_end: vec![],
            shift: None,
            text_encoder: Some(TextEncoder {
                graph: ENCODER.into(),
                length: sizes.text_length as u32,
                embedding_width: None,
            }),
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: 256,
            top_p: 1.0,
            guidance_scale: 16.0,
            top_k_ties: Ties::Kept,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
