//! The family `dalle-pytorch` (lucidrains): `dalle.pt` with hparams, weights, and the autoencoder's weights among them.

mod config;
mod sampler;

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{
    AttentionGeometry, Grid, Guidance, Manifest, Padding, Sampler, Sampling, ShiftGeometry, Text, Ties,
};

use crate::{
    Error, ImportOptions, Progress,
    checkpoint::{Checkpoint, Part},
    dalle_pytorch::config::Config,
    graph::Graph,
    parts::{Autoencoder, Pictures, pictures},
    storage::Storage,
    tokenizer, vocabulary,
};

const TOKENIZER: &str = "tokenizer.json";
const SAMPLER: &str = "sampler.onnx";
const CONTRACT: &str = "easel.sampler/2";
/// The token that begins the text.
const START: u32 = 0;

/// Writes the graphs and the vocabulary into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    checkpoint: &Checkpoint,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, Error> {
    let part = checkpoint.part_with(&["to_logits.1.weight"])?;
    let (mut read_bytes, total_bytes) = (0, part.bytes());
    let mut read = |bytes| {
        read_bytes += bytes;
        progress(Progress { read_bytes, total_bytes });
    };
    let config = Config::of(part.path(), [part.beside(), checkpoint.config()], &part.tensors("", &mut read))?;
    let side = config.side as u32;
    let autoencoder = autoencoder(&part)?;
    let pictures =
        pictures(part.path(), autoencoder, Grid { rows: side, columns: side }, out, options, &mut |_| read(0))?;
    if pictures.codebook as usize != config.codebook {
        let (expected, found) = (config.codebook.to_string(), pictures.codebook.to_string());
        let field = "vae (image tokens, as to_logits has them)".into();
        return Err(Error::Field { path: part.path().into(), field, expected, found });
    }
    tokenizer(checkpoint, out, &config)?;
    let mut tensors = part.tensors("", &mut read);
    tensors.ignore(|key| key.starts_with("vae.") || key.ends_with("mask"));
    let path = out.join(SAMPLER);
    let storage = Storage::choose(&path, part.bytes(), options.inline_limit_bytes)?;
    let graph =
        sampler::build(Graph::new("sampler", options.weights, storage).on(options.device), &mut tensors, &config)?;
    tensors.finish(None)?;
    graph.write(&path, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
    let provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
        ("sha256 of the checkpoint".into(), part.digest(&mut || read(0))?),
    ]);
    Ok(Manifest { provenance, ..manifest(&config, pictures) })
}

/// Whose autoencoder lies among the weights.
fn autoencoder(part: &Part) -> Result<Autoencoder, Error> {
    let has = |key: &str| part.entries().contains_key(key);
    if has("vae.codebook.weight") {
        return Ok(Autoencoder::Discrete);
    }
    if has("vae.dec.blocks.input.w") {
        return Ok(Autoencoder::OpenAi);
    }
    if has("vae.model.decoder.conv_in.weight") {
        return Ok(Autoencoder::Taming);
    }
    let expected = "vae.codebook.weight (DiscreteVAE), vae.dec.… (OpenAI's) or vae.model.decoder.… (VQGAN)".into();
    Err(Error::File { path: part.path().into(), expected, found: "no autoencoder".into() })
}

fn tokenizer(checkpoint: &Checkpoint, out: &Path, config: &Config) -> Result<(), Error> {
    let (path, json) = tokenizer::beside(checkpoint)?;
    vocabulary::sampler_json(&path, &json, config.words)?;
    let file = out.join(TOKENIZER);
    fs::write(&file, json.to_string()).map_err(|source| Error::Io { path: file, source })
}

fn manifest(c: &Config, pictures: Pictures) -> Manifest {
    let shift = ShiftGeometry { count: 2 * c.layers as u32, width: c.width as u32 / 2 };
    Manifest {
        schema: 1,
        name: "dalle-pytorch".into(),
        version: "1".into(),
        license: "LicenseRef-unknown".into(),
        description: "A checkpoint of dalle-pytorch.".into(),
        family: "dalle-pytorch".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: pictures.image,
        grid: pictures.grid,
        codebook: pictures.codebook,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: c.text_length() as u32,
            vocabulary: c.text_ids() as u32,
            padding: Padding::PerPosition { first_id: c.words as u32 },
            prefix: vec![START],
            suffix: vec![],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: SAMPLER.into(),
            contract: CONTRACT.into(),
            attention: AttentionGeometry {
                layers: c.layers as u32,
                heads: c.heads as u32,
                head_width: c.head_width as u32,
            },
            row_end: vec![],
            shift: c.shift.then_some(shift),
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: c.top_k(),
            top_p: 1.0,
            guidance_scale: 1.0,
            top_k_ties: Ties::Cut,
            guided_tokens: None,
        },
        decoder: pictures.decoder,
        encoder: pictures.encoder,
        ranker: None,
        files: BTreeMap::new(),
    }
}
