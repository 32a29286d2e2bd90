//! The family `rudalle`: Malevich, Kandinsky and their like, of DALL·E's own masks (ruDALL-E 1.1.3, `rudalle/dalle`).

mod sampler;

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{AttentionGeometry, Grid, Manifest, Padding, Sampler, Sampling, Text, Ties};
use serde_json::Value;

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Part, Tensors},
    graph::Graph,
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tokenizer, vocabulary,
};

const TOKENIZER: &str = "tokenizer.json";
const VOCABULARIES: [&str; 2] = ["bpe.model", "yttm.model"];
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/1";
/// Tokens before a caption and behind it, with their ids in YouTokenToMe's models.
const ENDS: [(&str, u64); 2] = [("<BOS>", 2), ("<EOS>", 3)];
/// The published models of this width have 16 heads, the others heads of 64; the weights do not tell.
const WIDE: [usize; 2] = [2048, 16];
const HEAD_WIDTH: usize = 64;
/// Side of the square that the last layer sees.
const KERNEL: usize = 11;

/// What the package calls `hf_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Malevich v2, Emojich: one more token before the caption, of which the masks know nothing, so that the last text position is an image's to them; and
    /// the last layer's square goes on at the opposite edge.
    Two,
    Three,
}

impl Version {
    /// Ids before what the vocabulary makes of a caption.
    fn prefix(self) -> Vec<u32> {
        if self == Self::Two { vec![2] } else { vec![] }
    }
}

/// Sizes that the tensors and the configuration tell.
struct Sizes {
    width: usize,
    heads: usize,
    layers: usize,
    version: Version,
    /// Text positions, the tokens before and behind the caption included.
    text_length: usize,
    /// Those of them that can be pads; the masks count no others as text.
    pads: usize,
    /// Text ids; the last of them are pads, one for each position that can be one.
    text_ids: usize,
    side: usize,
    codebook: usize,
}

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let part = checkpoint.part_with(&["image_row_embeddings.weight", "to_logits.1.weight"])?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let sizes = sizes(checkpoint, &part, &part.tensors("", &mut read))?;
    let grid = Grid { rows: sizes.side as u32, columns: sizes.side as u32 };
    let pictures = pictures(checkpoint.path(), Autoencoder::RuDalle, grid, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != sizes.codebook {
        let (expected, found) = (sizes.codebook.to_string(), pictures.codebook.to_string());
        let field = "image tokens of the autoencoder (as image_embeddings has them)".into();
        return Err(Error::Field { path: checkpoint.path().into(), field, expected, found });
    }
    write_vocabulary(checkpoint, out, &sizes)?;
    let mut tensors = part.tensors("", &mut read);
    // The masks lie among the tensors of what the package saves.
    tensors.ignore(|key| key.ends_with("_mask"));
    let path = out.join(SAMPLER);
    let storage = Storage::choose(&path, part.bytes(), options.inline_limit_bytes)?;
    let graph =
        sampler::build(Graph::new("sampler", options.weights, storage).on(options.device), &mut tensors, &sizes)?;
    tensors.finish(None)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the transformer".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&sizes, pictures) })
}

fn sizes(checkpoint: &Checkpoint, part: &Part, tensors: &Tensors<'_>) -> Result<Sizes, Error> {
    let [text_ids, width] = tensors.shape("text_embeddings.weight")?;
    let [positions, _] = tensors.shape("text_pos_embeddings.weight")?;
    let [codebook, _] = tensors.shape("image_embeddings.weight")?;
    let [side, _] = tensors.shape("image_row_embeddings.weight")?;
    let pads = positions - 1;
    if !(1..4096).contains(&pads) || text_ids <= pads || side > 1024 {
        let found = format!("{pads} positions, {text_ids} ids, a grid of {side} rows");
        let expected = "at most 4095 text positions, each with a pad among the ids, and 1024 rows";
        return Err(tensors.wrong("text_pos_embeddings.weight", expected.into(), found));
    }
    let layers = (0..1024).take_while(|i| tensors.contains(&sampler::key(*i, "input_layernorm.weight"))).count();
    let field = |field: &str, expected: String, found: &Value| {
        let path = checkpoint.path().join("config.json");
        Err(Error::Field { path, field: field.into(), expected, found: found.to_string() })
    };
    let config = checkpoint.config();
    let version = match (&config["hf_version"], config["hf_version"].as_str()) {
        (Value::Null, _) => version(part, pads, side)?,
        (_, Some("v2")) => Version::Two,
        (_, Some("v3")) => Version::Three,
        (found, _) => return field("hf_version", "\"v2\" or \"v3\"".into(), found),
    };
    let usual = if width == WIDE[0] { WIDE[1] } else { width / HEAD_WIDTH };
    let heads = match &config["num_attention_heads"] {
        Value::Null => usual as u64,
        heads => heads.as_u64().unwrap_or(0),
    } as usize;
    if !(1..=1024).contains(&heads) || !width.is_multiple_of(heads) {
        let found = &config["num_attention_heads"];
        return field("num_attention_heads", format!("a divisor of {width}, at most 1024"), found);
    }
    let text_length = version.prefix().len() + pads;
    Ok(Sizes { width, heads, layers, version, text_length, pads, text_ids, side, codebook })
}

/// What the last layer's mask tells, which the package saves beside the weights: whether a row's last cell sees its first one, across the edges; else what the
/// file's name does, as that of `pytorch_model_v2.bin`; the weights do not tell.
fn version(part: &Part, pads: usize, side: usize) -> Result<Version, Error> {
    let (all, key) = (pads + side * side, "transformer.conv_mask");
    let mask = part.entries().get(key).filter(|mask| mask.shape == [all, all] && side > KERNEL);
    let across = mask.and_then(|mask| mask.is_set(((pads + side - 1) * all + pads) as u64)).transpose();
    let across = across.map_err(|error| Error::Tensor {
        path: part.path().into(),
        tensor: key.into(),
        expected: "flags that can be read".into(),
        found: error.to_string(),
    })?;
    let named = || part.path().file_stem().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with("_v2"));
    Ok(if across.unwrap_or_else(named) { Version::Two } else { Version::Three })
}

/// Writes the vocabulary; it puts the tokens around a caption, since the one behind it comes before the pads.
fn write_vocabulary(checkpoint: &Checkpoint, out: &Path, sizes: &Sizes) -> Result<(), Error> {
    let path = checkpoint.file(&VOCABULARIES).ok_or_else(|| Error::File {
        path: checkpoint.path().into(),
        expected: format!("{} beside the weights", VOCABULARIES.join(" or ")),
        found: "none".into(),
    })?;
    let mut json = tokenizer::yttm(&path, true)?;
    vocabulary::sampler_json(&path, &json, sizes.text_ids - sizes.pads)?;
    let [first, last] = ENDS;
    json["post_processor"] = tokenizer::ends(first, last);
    let file = out.join(TOKENIZER);
    fs::write(&file, json.to_string()).map_err(|source| Error::Io { path: file, source })
}

fn manifest(sizes: &Sizes, pictures: Pictures) -> Manifest {
    let first_id = (sizes.text_ids - sizes.pads) as u32;
    Manifest {
        schema: 1,
        name: "rudalle".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: "A checkpoint of ruDALL-E. It reads Russian.".into(),
        family: "rudalle".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: sizes.text_length as u32,
            vocabulary: sizes.text_ids as u32,
            padding: Padding::PerPosition { first_id },
            prefix: sizes.version.prefix(),
            suffix: vec![],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention: AttentionGeometry {
                layers: sizes.layers as u32,
                heads: sizes.heads as u32,
                head_width: (sizes.width / sizes.heads) as u32,
            },
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: None,
        sampling: Sampling {
            temperature: 1.0,
            top_k: 2048.min(pictures.codebook),
            top_p: 0.995,
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
