//! CLIP of a checkpoint of its own, for any package: OpenAI's file, open_clip's or Hugging Face's, with a vision transformer of any size.

mod hugging_face;
mod settings;

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{Manifest, Preprocess, Ranker, RankerText, Size};

use crate::{
    Error, ImportOptions,
    checkpoint::{Checkpoint, Part, Tensors},
    dalle::ranker as openai,
    graph::Graph,
    storage::Storage,
    tokenizer, vocabulary,
};

use settings::Settings;

const CONTRACT: &str = "easel.ranker/1";
const GRAPHS: [&str; 2] = ["ranker_image", "ranker_text"];
const TOKENIZER: &str = "ranker_tokenizer.json";
/// OpenAI's own.
const VOCABULARIES: [&str; 2] = ["bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"];

/// Whose names the keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// OpenAI's, which open_clip kept.
    OpenAi,
    HuggingFace,
}

impl Names {
    /// Whose a part's keys are, and what they begin with; none: it has no CLIP.
    fn of(part: &Part) -> Option<(Self, String)> {
        [Self::OpenAi, Self::HuggingFace].into_iter().find_map(|names| {
            let prefix = part.entries().keys().find_map(|key| key.strip_suffix(names.patches()))?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| (names, prefix.to_owned()))
        })
    }

    /// The convolution that cuts the picture into patches; \[width, 3, patch, patch\].
    pub(crate) fn patches(self) -> &'static str {
        match self {
            Self::OpenAi => "visual.conv1.weight",
            Self::HuggingFace => "vision_model.embeddings.patch_embedding.weight",
        }
    }

    /// One row for every patch, and one for the class.
    pub(crate) fn positions(self) -> [&'static str; 2] {
        match self {
            Self::OpenAi => ["visual.positional_embedding", "positional_embedding"],
            Self::HuggingFace => {
                ["vision_model.embeddings.position_embedding.weight", "text_model.embeddings.position_embedding.weight"]
            }
        }
    }
}

/// A checkpoint of CLIP, found among files.
pub(crate) struct Source {
    checkpoint: Checkpoint,
    part: Part,
    prefix: String,
    names: Names,
}

impl Source {
    /// Looks for CLIP in a file or a folder of them.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let expected = || format!("a tensor {} or {}", Names::OpenAi.patches(), Names::HuggingFace.patches());
        let part = checkpoint.find(|part| Names::of(part).is_some(), expected)?;
        let (names, prefix) = Names::of(&part).expect("it was found by them");
        Ok(Self { checkpoint, part, prefix, names })
    }

    /// Bytes of its tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.part.bytes()
    }

    /// Imports it and names it in the manifest. `progress` is told the bytes of all tensors that were read so far.
    pub(crate) fn attach(
        &self,
        manifest: Manifest,
        out: &Path,
        options: &ImportOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Manifest, Error> {
        let mut bytes = 0;
        let mut read = |more| {
            bytes += more;
            progress(bytes);
        };
        let ranker = Some(self.import(out, options, &mut read)?);
        progress(self.bytes());
        let mut provenance = manifest.provenance;
        provenance.insert("sha256 of the ranker".into(), self.part.digest(&mut || progress(self.bytes()))?);
        Ok(Manifest { provenance, ranker, ..manifest })
    }

    /// Writes both towers and the vocabulary into the folder `out`.
    pub(crate) fn import(
        &self,
        out: &Path,
        options: &ImportOptions,
        read: &mut dyn FnMut(u64),
    ) -> Result<Ranker, Error> {
        let mut tensors = self.part.tensors(&self.prefix, read);
        let settings = Settings::of(&self.checkpoint, &mut tensors, self.names)?;
        let plan = &settings.plan;
        let facts = match self.names {
            Names::OpenAi => openai::facts(&mut tensors)?,
            Names::HuggingFace => hugging_face::facts(&mut tensors)?,
        };
        self.tokenizer(&out.join(TOKENIZER), facts.vocabulary)?;
        for (i, name) in GRAPHS.into_iter().enumerate() {
            let path = out.join(format!("{name}.onnx"));
            let storage = Storage::choose(&path, self.part.bytes(), options.inline_limit_bytes)?;
            let graph = Graph::new(name, options.weights, storage);
            let graph = match (self.names, i) {
                (Names::OpenAi, 0) => openai::image(graph, &mut tensors, plan, &facts),
                (Names::OpenAi, _) => openai::text(graph, &mut tensors, plan, &facts),
                (Names::HuggingFace, 0) => hugging_face::image(graph, &mut tensors, plan, &facts),
                (Names::HuggingFace, _) => hugging_face::text(graph, &mut tensors, plan, &facts),
            }?;
            graph.write(&path, &BTreeMap::from([("easel.contract", CONTRACT.to_owned())]))?;
        }
        tensors.finish(None)?;
        let side = plan.image_size as u32;
        let [image_graph, text_graph] = GRAPHS.map(|name| format!("{name}.onnx"));
        let (context_length, vocabulary) = (plan.context_length as u32, facts.vocabulary as u32);
        Ok(Ranker {
            image_graph,
            text_graph,
            preprocess: Preprocess { size: Size { width: side, height: side } },
            text: RankerText { tokenizer: TOKENIZER.into(), context_length, vocabulary, pad: plan.pad },
            embedding_width: facts.embedding_width as u32,
            layout_width: facts.layout_width.map(|width| width as u32),
            logit_scale: facts.logit_scale,
        })
    }

    /// The vocabulary that lies beside the weights.
    fn tokenizer(&self, out: &Path, size: usize) -> Result<(), Error> {
        let made = if let Some(path) = self.checkpoint.file(&["tokenizer.json"]) {
            tokenizer::tokenizer_json(&path)?
        } else if let Some(path) = self.checkpoint.file(&VOCABULARIES) {
            tokenizer::clip(&path, true)?
        } else {
            let expected = format!("tokenizer.json or {} beside the weights", VOCABULARIES[0]);
            return Err(Error::File { path: self.checkpoint.path().into(), expected, found: "neither".into() });
        };
        fs::write(out, made.to_string()).map_err(|source| Error::Io { path: out.into(), source })?;
        vocabulary::ranker(out, size, settings::PAD)
    }
}

/// The shape of a tensor that must be a square of patches and one more row: rows and columns of patches.
pub(crate) fn side(tensors: &Tensors<'_>, name: &str) -> Result<usize, Error> {
    let [rows, _] = tensors.shape(name)?;
    let side = (rows - 1).isqrt();
    if side > 0 && side * side + 1 == rows {
        return Ok(side);
    }
    Err(tensors.wrong(name, "a row for the class and for each patch of a square".into(), format!("{rows} rows")))
}
