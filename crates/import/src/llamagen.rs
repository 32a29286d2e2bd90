//! The family `llamagen`: FoundationVision's LlamaGen, of captions (t2i, which T5 reads) and of classes (c2i), the autoencoder in a file of its own.

mod manifest;
mod sampler;

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{Grid, Manifest};
use serde_json::{Map, Value, json};

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Part},
    graph::Graph,
    layers::Activation,
    llama,
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    t5, tokenizer,
    transformer::Projection,
};
use sampler::{Condition, Sizes};

const TOKENIZER: &str = "tokenizer.json";
const WORDS: &str = "words.txt";
const SAMPLER: &str = "sampler.onnx";
const ENCODER: &str = "text_encoder.onnx";
/// Stands for what is no class, and draws without one.
const NO_CLASS: &str = "<none>";

/// What reads the caption, as the manifest has it.
enum Text {
    /// So many classes.
    Classes(u32),
    /// T5, with so many ids, and the one that ends a caption.
    Captions { ids: u32, end: u32 },
}

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let part = checkpoint.part_with(&["tok_embeddings.weight", "layers.0.attention.wqkv.weight"])?;
    let sizes = Sizes::of(checkpoint, &part)?;
    let t5 = text_encoder(checkpoint, &sizes, options)?;
    let (mut read_bytes, total_bytes) = (0, part.bytes() + t5.as_ref().map_or(0, t5::Source::bytes));
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let pictures = autoencoder(checkpoint, &sizes, out, options, &mut read)?;
    let projection = transformer(&part, &sizes, out, options, &mut read)?;
    let text = match (&t5, projection) {
        (Some(t5), Some(projection)) => captions(t5, &projection, out, options, &mut read)?,
        _ => classes(&sizes, out)?,
    };
    let mut provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the transformer".into(), part.digest(&mut || read(0))?),
    ]);
    if let Some(t5) = &t5 {
        provenance.insert("sha256 of the text encoder".into(), t5.digest(&mut || read(0))?);
    }
    Ok(Manifest { provenance, ..manifest::manifest(&sizes, &text, pictures) })
}

/// The text encoder that was given, if it is the one whose features the model reads; none: the model reads classes.
fn text_encoder(checkpoint: &Checkpoint, sizes: &Sizes, options: &ImportOptions) -> Result<Option<t5::Source>, Error> {
    let fail = |path: &Path, expected: String, found: &str| {
        Err(Error::File { path: path.into(), expected, found: found.into() })
    };
    match (&sizes.condition, &options.text_encoder) {
        (Condition::Classes(_), None) => Ok(None),
        (Condition::Classes(_), Some(path)) => fail(path, "no text encoder for a model of classes".into(), "one"),
        (Condition::Captions { .. }, None) => {
            let expected = "the text encoder that the model was trained with (flan-t5-xl), as --text-encoder".into();
            fail(checkpoint.path(), expected, "none")
        }
        (Condition::Captions { width, .. }, Some(path)) => {
            let t5 = t5::Source::open(path)?;
            if t5.width() != *width {
                let expected = format!("a text encoder {width} wide, as cls_embedding.uncond_embedding is");
                return fail(path, expected, &t5.width().to_string());
            }
            Ok(Some(t5))
        }
    }
}

/// Writes the sampler's graph; gives what makes embeddings of a text encoder's features.
fn transformer(
    part: &Part,
    sizes: &Sizes,
    out: &Path,
    options: &ImportOptions,
    read: &mut dyn FnMut(u64),
) -> Result<Option<Projection>, Error> {
    let mut tensors = part.tensors("", read);
    // What a model that has drawn keeps.
    tensors.ignore(|key| key.contains(".kv_cache."));
    let path = out.join(SAMPLER);
    let storage = Storage::choose(&path, part.bytes(), options.inline_limit_bytes)?;
    let graph =
        sampler::build(Graph::new("sampler", options.weights, storage).on(options.device), &mut tensors, sizes)?;
    let projection = match sizes.condition {
        Condition::Classes(_) => None,
        Condition::Captions { length, width } => {
            let blank = tensors.take("cls_embedding.uncond_embedding", &[length, width])?;
            let mut map = |name: &str, inputs: usize| {
                llama::linear(&mut tensors, &format!("cls_embedding.cap_proj.{name}"), [sizes.width, inputs], false)
            };
            let maps = [map("fc1", width)?, map("fc2", sizes.width)?];
            Some(Projection { blank, maps, activation: Activation::GeluTanh })
        }
    };
    tensors.finish(None)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", sizes.contract().to_owned())]))?;
    Ok(projection)
}

/// Writes the text encoder's graph and its vocabulary.
fn captions(
    t5: &t5::Source,
    projection: &Projection,
    out: &Path,
    options: &ImportOptions,
    read: &mut dyn FnMut(u64),
) -> Result<Text, Error> {
    let (mut json, end) = t5.vocabulary()?;
    tokenizer::caption(&mut json);
    write(out, TOKENIZER, &json.to_string())?;
    let path = out.join(ENCODER);
    let storage = Storage::choose(&path, t5.bytes(), options.inline_limit_bytes)?;
    let graph = t5.graph(Graph::new("text_encoder", options.weights, storage), projection, read)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", "easel.text_encoder/2".to_owned())]))?;
    Ok(Text::Captions { ids: t5.text_ids() as u32, end })
}

/// Writes a vocabulary of the classes' numbers.
fn classes(sizes: &Sizes, out: &Path) -> Result<Text, Error> {
    let Condition::Classes(rows) = sizes.condition else { unreachable!("captions have a projection") };
    let classes = rows - 1;
    let numbers: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let mut vocab: Map<String, Value> = numbers.iter().enumerate().map(|(i, n)| (n.clone(), json!(i))).collect();
    vocab.insert(NO_CLASS.into(), json!(classes));
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": NO_CLASS},
    });
    write(out, TOKENIZER, &json.to_string())?;
    write(out, WORDS, &(numbers.join("\n") + "\n"))?;
    Ok(Text::Classes(classes as u32))
}

fn write(out: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = out.join(name);
    fs::write(&path, text).map_err(|source| Error::Io { path, source })
}

fn autoencoder(
    checkpoint: &Checkpoint,
    sizes: &Sizes,
    out: &Path,
    options: &ImportOptions,
    read: &mut dyn FnMut(u64),
) -> Result<Pictures, Error> {
    let grid = Grid { rows: sizes.side as u32, columns: sizes.side as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::LlamaGen, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize == sizes.codebook {
        return Ok(pictures);
    }
    let (expected, found) = (sizes.codebook.to_string(), pictures.codebook.to_string());
    let field = "image tokens of the autoencoder (as tok_embeddings has them)".into();
    Err(Error::Field { path: checkpoint.path().into(), field, expected, found })
}
