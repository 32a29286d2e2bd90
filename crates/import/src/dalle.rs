//! The family `dalle`: DALL·E's own layout (`docs/checkpoint.md`).

pub(crate) mod config;
mod dvae;
pub(crate) mod ranker;
mod sampler;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use easel_package::{
    AttentionGeometry, Decoder, Encoder, Grid, Guidance, Manifest, Padding, Preprocess, Ranker, RankerText, Sampler,
    Size, Text,
};

use crate::{
    Error, ImportOptions, checkpoint,
    checkpoint::Tensors,
    dalle::{config::Config, ranker::Facts},
    graph::Graph,
    storage::Storage,
    vocabulary,
};

/// The files with tensors.
const TENSORS: [&str; 3] = ["transformer.safetensors", "dvae.safetensors", "clip.safetensors"];
const TOKENIZER: &str = "tokenizer.json";
const RANKER_TOKENIZER: &str = "ranker_tokenizer.json";
const WORDS: &str = "words.txt";
const SAMPLER_CONTRACT: &str = "easel.sampler/1";

/// Bytes of tensors to read.
pub(crate) fn bytes(folder: &Path) -> Result<u64, Error> {
    TENSORS.iter().map(|name| checkpoint::size(&folder.join(name))).sum()
}

/// Writes the graphs and vocabularies into `out` and says in a manifest what they are; its list of files is left empty.
pub(crate) fn import(
    config: (&Path, &str),
    folder: &Path,
    out: &Path,
    options: &ImportOptions,
    read: &mut dyn FnMut(u64),
) -> Result<Manifest, Error> {
    let config = Config::parse(config.0, config.1)?;
    let writer = Writer { folder, out, options };
    let mut provenance = BTreeMap::from([
        ("importer".into(), concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into()),
        ("weights".into(), options.weights.to_string()),
    ]);
    let mut source =
        |name: &str, tensors: &Tensors<'_>| provenance.insert(format!("sha256 of {name}"), tensors.digest());
    writer.vocabularies(&config)?;
    let graph = writer.graph("sampler", TENSORS[0])?;
    let tensors = Tensors::open(&folder.join(TENSORS[0]), read)?;
    source(TENSORS[0], &tensors);
    writer.write(sampler::build(graph.on(options.device), tensors, &config)?, "sampler", SAMPLER_CONTRACT)?;
    let mut tensors = Tensors::open(&folder.join(TENSORS[1]), read)?;
    source(TENSORS[1], &tensors);
    let graph = writer.graph("decoder", TENSORS[1])?;
    writer.write(dvae::decoder(graph, &mut tensors, &config)?, "decoder", "easel.decoder/1")?;
    let graph = writer.graph("encoder", TENSORS[1])?;
    writer.write(dvae::encoder(graph, &mut tensors, &config)?, "encoder", "easel.encoder/1")?;
    tensors.finish(None)?;
    let mut tensors = Tensors::open(&folder.join(TENSORS[2]), read)?;
    source(TENSORS[2], &tensors);
    let facts = ranker::facts(&mut tensors)?;
    vocabulary::ranker(&folder.join(RANKER_TOKENIZER), facts.vocabulary, config.clip.pad)?;
    let graph = writer.graph("ranker_image", TENSORS[2])?;
    writer.write(ranker::image(graph, &mut tensors, &config.clip, &facts)?, "ranker_image", "easel.ranker/1")?;
    let graph = writer.graph("ranker_text", TENSORS[2])?;
    writer.write(ranker::text(graph, &mut tensors, &config.clip, &facts)?, "ranker_text", "easel.ranker/1")?;
    tensors.finish(None)?;
    Ok(Manifest { provenance, ..manifest(&config, &facts, folder.join(WORDS).exists()) })
}

struct Writer<'a> {
    folder: &'a Path,
    out: &'a Path,
    options: &'a ImportOptions,
}

impl Writer<'_> {
    fn path(&self, graph: &str) -> PathBuf {
        self.out.join(format!("{graph}.onnx"))
    }

    /// An empty graph for weights from the file `tensors`.
    fn graph(&self, name: &str, tensors: &str) -> Result<Graph, Error> {
        let bytes = checkpoint::size(&self.folder.join(tensors))?;
        let storage = Storage::choose(&self.path(name), bytes, self.options.inline_limit_bytes)?;
        Ok(Graph::new(name, self.options.weights, storage))
    }

    fn write(&self, graph: Graph, name: &str, contract: &str) -> Result<(), Error> {
        graph.write(&self.path(name), &BTreeMap::from([("easel.contract", contract.to_owned())]))
    }

    /// Checks and copies the tokenizers and the list of words.
    fn vocabularies(&self, config: &Config) -> Result<(), Error> {
        vocabulary::sampler(&self.folder.join(TOKENIZER), config.transformer.text_vocab)?;
        let mut names = vec![TOKENIZER, RANKER_TOKENIZER];
        if self.folder.join(WORDS).exists() {
            vocabulary::words(&self.folder.join(WORDS))?;
            names.push(WORDS);
        }
        names.into_iter().try_for_each(|name| {
            let from = self.folder.join(name);
            fs::copy(&from, self.out.join(name)).map(drop).map_err(|source| Error::Io { path: from, source })
        })
    }
}

fn manifest(config: &Config, facts: &Facts, words: bool) -> Manifest {
    let (t, c) = (&config.transformer, &config.clip);
    let square = |side: usize| Size { width: side as u32, height: side as u32 };
    Manifest {
        schema: 1,
        name: config.name.clone(),
        version: config.version.clone(),
        license: config.license.clone(),
        description: config.description.clone(),
        family: "dalle".into(),
        examples: config.examples.clone(),
        provenance: BTreeMap::new(),
        image: square(config.dvae.image_size),
        grid: Grid { rows: t.grid[0] as u32, columns: t.grid[1] as u32 },
        codebook: t.codebook as u32,
        text: Text {
            tokenizer: Some(TOKENIZER.into()),
            length: t.text_length as u32,
            vocabulary: (t.text_vocab + t.text_length) as u32,
            padding: Padding::PerPosition { first_id: t.text_vocab as u32 },
            prefix: vec![],
            suffix: vec![],
            template: None,
            words: words.then(|| WORDS.into()),
        },
        sampler: Sampler {
            graph: "sampler.onnx".into(),
            contract: SAMPLER_CONTRACT.into(),
            attention: AttentionGeometry {
                layers: t.layers as u32,
                heads: t.heads as u32,
                head_width: (t.width / t.heads) as u32,
            },
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: config.sampling,
        decoder: Decoder { graph: "decoder.onnx".into() },
        encoder: Some(Encoder {
            graph: "encoder.onnx".into(),
            preprocess: Preprocess { size: square(config.dvae.image_size) },
        }),
        ranker: Some(Ranker {
            image_graph: "ranker_image.onnx".into(),
            text_graph: "ranker_text.onnx".into(),
            preprocess: Preprocess { size: square(c.image_size) },
            text: RankerText {
                tokenizer: RANKER_TOKENIZER.into(),
                context_length: c.context_length as u32,
                vocabulary: facts.vocabulary as u32,
                pad: c.pad,
            },
            embedding_width: facts.embedding_width as u32,
            layout_width: facts.layout_width.map(|width| width as u32),
            logit_scale: facts.logit_scale,
        }),
        files: BTreeMap::new(),
    }
}
