//! What CLIP's tensors do not say of themselves, from the files beside them.

use std::path::Path;

use serde_json::Value;

use crate::{
    Error,
    checkpoint::{self, Checkpoint, Tensors},
    dalle::config::Clip,
    layers::Activation,
    ranker::{Names, side},
};

/// What fills a caption behind its end token; nothing sees it.
pub(super) const PAD: u32 = 0;

const CONFIG: &str = "config.json";
const OPEN_CLIP: &str = "open_clip_config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const CONFIG_BYTES: u64 = 1 << 20;
/// OpenAI's, of the pictures that it trained on.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
const HEAD_WIDTH: usize = 64;
/// Widths of open_clip's vision towers whose heads are wider: ViT-H, g, bigG and e.
const WIDE_HEADS: [(usize, usize); 4] = [(1280, 80), (1408, 88), (1664, 104), (1792, 112)];
/// Numbers in OpenAI's own file that are no weights; no other has them.
const OPENAI_ONLY: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Sizes and numbers of both towers.
pub(crate) struct Settings {
    pub(crate) plan: Clip,
}

/// A configuration and its file.
struct File<'a> {
    path: &'a Path,
    json: Value,
}

impl Settings {
    /// Reads the configurations that are there and takes from `tensors` what is no weight.
    pub(crate) fn of(checkpoint: &Checkpoint, tensors: &mut Tensors<'_>, names: Names) -> Result<Self, Error> {
        let openai = OPENAI_ONLY.iter().all(|key| tensors.contains(key));
        let unused = |key: &str| key.ends_with("attn_mask") || key.ends_with(".position_ids");
        tensors.ignore(|key| OPENAI_ONLY.contains(&key) || unused(key));
        let [vision, text] = names.positions();
        let [width, _, patch, _] = tensors.shape(names.patches())?;
        let [context_length, text_width] = tensors.shape(text)?;
        let head = WIDE_HEADS.iter().find(|(w, _)| *w == width).map_or(HEAD_WIDTH, |(_, head)| *head);
        let heads = |width: usize, head: usize| (width / head).max(1);
        let mut plan = Clip {
            image_size: side(tensors, vision)? * patch,
            mean: MEAN,
            std: STD,
            context_length,
            vision_heads: heads(width, head),
            text_heads: heads(text_width, HEAD_WIDTH),
            activation: Activation::QuickGelu,
            norm_epsilon: 1e-5,
            pad: PAD,
        };
        match names {
            Names::OpenAi if openai => {}
            Names::OpenAi => open_clip(checkpoint, &mut plan, width)?,
            Names::HuggingFace => hugging_face(checkpoint, &mut plan)?,
        }
        Ok(Self { plan })
    }
}

/// `open_clip_config.json`, which must say which activation it is: the tensors of both are alike.
fn open_clip(checkpoint: &Checkpoint, plan: &mut Clip, width: usize) -> Result<(), Error> {
    let Some(path) = checkpoint.file(&[OPEN_CLIP]) else {
        let (expected, found) = (format!("{OPEN_CLIP} beside the weights, or OpenAI's own file"), "none".into());
        return Err(Error::File { path: checkpoint.path().into(), expected, found });
    };
    let file = File { path: &path, json: checkpoint::json(&path, CONFIG_BYTES)? };
    let quick = file.json["model_cfg"]["quick_gelu"].as_bool().unwrap_or(false);
    plan.activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
    if let Some(head) = file.number("model_cfg.vision_cfg.head_width")? {
        plan.vision_heads = (width / head).max(1);
    }
    if let Some(heads) = file.number("model_cfg.text_cfg.heads")? {
        plan.text_heads = heads;
    }
    file.colours("preprocess_cfg.mean", &mut plan.mean)?;
    file.colours("preprocess_cfg.std", &mut plan.std)
}

/// `config.json`, whose defaults are those of ViT-B/32, and `preprocessor_config.json`.
fn hugging_face(checkpoint: &Checkpoint, plan: &mut Clip) -> Result<(), Error> {
    let Some(path) = checkpoint.file(&[CONFIG]) else {
        let (expected, found) = (format!("{CONFIG} beside the weights"), "none".into());
        return Err(Error::File { path: checkpoint.path().into(), expected, found });
    };
    let file = File { path: &path, json: checkpoint::json(&path, CONFIG_BYTES)? };
    plan.vision_heads = file.number("vision_config.num_attention_heads")?.unwrap_or(12);
    plan.text_heads = file.number("text_config.num_attention_heads")?.unwrap_or(8);
    let [text, vision] = ["text_config", "vision_config"].map(|part| file.json[part]["hidden_act"].as_str());
    let (text, vision) = (text.unwrap_or("quick_gelu"), vision.unwrap_or("quick_gelu"));
    plan.activation = match (text, vision) {
        ("quick_gelu", "quick_gelu") => Activation::QuickGelu,
        ("gelu", "gelu") => Activation::Gelu,
        _ => return file.wrong("hidden_act", "quick_gelu or gelu, in both towers", &format!("{text} and {vision}")),
    };
    let epsilons = ["text_config", "vision_config"].map(|part| file.json[part]["layer_norm_eps"].as_f64());
    match epsilons.map(|epsilon| epsilon.unwrap_or(1e-5)) {
        [a, b] if a == b && (0.0..=0.1).contains(&a) => plan.norm_epsilon = a as f32,
        [a, b] => return file.wrong("layer_norm_eps", "one small number for both towers", &format!("{a} and {b}")),
    }
    let Some(path) = checkpoint.file(&[PREPROCESSOR]) else { return Ok(()) };
    let file = File { path: &path, json: checkpoint::json(&path, CONFIG_BYTES)? };
    file.colours("image_mean", &mut plan.mean)?;
    file.colours("image_std", &mut plan.std)
}

impl File<'_> {
    fn wrong<T>(&self, field: &str, expected: &str, found: &str) -> Result<T, Error> {
        let (expected, found) = (expected.into(), found.into());
        Err(Error::Field { path: self.path.into(), field: field.into(), expected, found })
    }

    fn value(&self, field: &str) -> &Value {
        field.split('.').fold(&self.json, |json, key| &json[key])
    }

    /// A number from 1 on; none: it is not there.
    fn number(&self, field: &str) -> Result<Option<usize>, Error> {
        match self.value(field) {
            Value::Null => Ok(None),
            value => match value.as_u64().filter(|n| (1..=1024).contains(n)) {
                Some(number) => Ok(Some(number as usize)),
                None => self.wrong(field, "1 … 1024", &value.to_string()),
            },
        }
    }

    /// Three numbers, if they are there.
    fn colours(&self, field: &str, colours: &mut [f32; 3]) -> Result<(), Error> {
        let value = self.value(field);
        if value.is_null() {
            return Ok(());
        }
        match serde_json::from_value::<[f32; 3]>(value.clone()) {
            Ok(found) if found.iter().all(|v| v.is_finite() && v.abs() <= 10.0) => *colours = found,
            _ => return self.wrong(field, "three numbers", &value.to_string()),
        }
        Ok(())
    }
}
