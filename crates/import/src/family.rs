//! Whose checkpoint something is: by what its configuration says, or by keys that no other family has.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::{
    Error,
    checkpoint::{Checkpoint, Part},
};

/// Keys that an error names.
const NAMED: usize = 8;

/// A family of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DALL·E's own layout (`docs/checkpoint.md`).
    Dalle,
    /// lucidrains' dalle-pytorch.
    DallePytorch,
    /// DeepSeek's Janus and Janus-Pro.
    Janus,
    /// DALL·E Mini and Mega, as min-dalle keeps them.
    MinDalle,
    /// ruDALL-E: Malevich, Kandinsky.
    RuDalle,
    /// The dVAE of DALL·E, as OpenAI published it.
    OpenAiDvae,
    /// CLIP, in the names of OpenAI, open_clip or Hugging Face.
    Clip,
    /// Image GPT, in the names of Hugging Face.
    ImageGpt,
    /// Kakao Brain's minDALL-E.
    MinDallE,
    /// LlamaGen.
    LlamaGen,
    /// Emu3-Gen.
    Emu3,
    /// Chameleon.
    Chameleon,
}

/// What a family is known by.
struct Sign {
    family: Family,
    name: &'static str,
    /// What `config.json` of Hugging Face's layout says in `model_type`.
    model_types: &'static [&'static str],
    /// Sets of keys, all of one of which some part of the checkpoint has.
    keys: &'static [&'static [&'static str]],
}

const fn sign(
    family: Family,
    name: &'static str,
    model_types: &'static [&'static str],
    keys: &'static [&'static [&'static str]],
) -> Sign {
    Sign { family, name, model_types, keys }
}

/// The families; last those that may be a part of another.
const SIGNS: [Sign; 12] = [
    sign(Family::Dalle, "dalle", &[], &[&["image_head.weight", "row_position.weight"]]),
    sign(
        Family::DallePytorch,
        "dalle-pytorch",
        &[],
        &[&["text_emb.weight", "to_logits.1.weight"], &["text_emb.linear.weight", "to_logits.1.weight"]],
    ),
    sign(
        Family::Janus,
        "janus",
        &["janus", "multi_modality"],
        &[&["gen_head.output_mlp_projector.weight"], &["model.generation_head.proj_out.weight"]],
    ),
    sign(Family::MinDalle, "min-dalle", &[], &[&["lm_head.weight", "final_ln.weight", "embed_tokens.weight"]]),
    sign(Family::RuDalle, "rudalle", &[], &[&["image_row_embeddings.weight", "image_col_embeddings.weight"]]),
    sign(
        Family::ImageGpt,
        "image-gpt",
        &["imagegpt"],
        &[&["transformer.h.0.attn.c_attn.weight", "transformer.wpe.weight"]],
    ),
    sign(Family::MinDallE, "mindall-e", &[], &[&["tok_emb_img.weight", "tok_emb_txt.weight", "head_img.weight"]]),
    sign(
        Family::LlamaGen,
        "llamagen",
        &[],
        &[
            &["layers.0.attention.wqkv.weight", "cls_embedding.uncond_embedding"],
            &["layers.0.attention.wqkv.weight", "cls_embedding.embedding_table.weight"],
        ],
    ),
    sign(Family::Emu3, "emu3", &["emu3", "Emu3"], &[]),
    sign(
        Family::Chameleon,
        "chameleon",
        &["chameleon"],
        &[&["model.layers.0.self_attn.q_norm.weight", "model.embed_tokens.weight"]],
    ),
    sign(Family::OpenAiDvae, "openai-dvae", &[], &[&["blocks.input.w", "blocks.output.conv.w"]]),
    sign(
        Family::Clip,
        "clip",
        &["clip"],
        &[
            &["visual.conv1.weight", "text_projection", "logit_scale"],
            &["vision_model.embeddings.patch_embedding.weight", "text_projection.weight"],
        ],
    ),
];

/// The names of all families, in a sentence.
pub(crate) fn names() -> String {
    SIGNS.each_ref().map(|sign| sign.name).join(", ")
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|sign| sign.family == *self);
        f.write_str(sign.map_or("unknown", |sign| sign.name))
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sign = SIGNS.iter().find(|sign| sign.name == text);
        sign.map(|sign| sign.family).ok_or_else(|| format!("expected one of {}, found {text:?}", names()))
    }
}

impl Family {
    /// Those whose checkpoints become packages.
    pub(crate) const IMPORTED: [Self; 10] = [
        Self::Dalle,
        Self::DallePytorch,
        Self::Janus,
        Self::MinDalle,
        Self::RuDalle,
        Self::ImageGpt,
        Self::MinDallE,
        Self::LlamaGen,
        Self::Emu3,
        Self::Chameleon,
    ];

    /// The family that the configuration names (`family`, or Hugging Face's `model_type`), or that the keys are known of.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Self, Error> {
        if let Some(family) = configured(checkpoint)? {
            return Ok(family);
        }
        let (mut failed, mut seen, mut first) = (None, Vec::new(), SIGNS.len());
        for part in checkpoint.given() {
            match part {
                Ok(part) => {
                    first = known(&part).map_or(first, |known| known.min(first));
                    seen.extend(part.entries().keys().take(NAMED).cloned());
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(sign) = SIGNS.get(first) {
            return Ok(sign.family);
        }
        if let Some(error) = failed.take_if(|_| seen.is_empty()) {
            return Err(error);
        }
        seen.truncate(NAMED);
        let mut found = if seen.is_empty() { "no tensors".into() } else { format!("keys such as {}", seen.join(", ")) };
        if checkpoint.config().is_null() && checkpoint.path().is_dir() {
            found.push_str(", and no config.json");
        }
        if let Some(error) = failed {
            found.push_str(&format!("; and what cannot be read, {error}"));
        }
        let expected = format!("a checkpoint of one of the families {}", names());
        Err(Error::File { path: checkpoint.path().into(), expected, found })
    }
}

fn configured(checkpoint: &Checkpoint) -> Result<Option<Family>, Error> {
    let config = checkpoint.config();
    match &config["family"] {
        Value::Null => {}
        family => {
            let named = family.as_str().and_then(|name| name.parse().ok());
            return named.map(Some).ok_or_else(|| Error::Field {
                path: checkpoint.path().join("config.json"),
                field: "family".into(),
                expected: format!("one of {}", names()),
                found: family.to_string(),
            });
        }
    }
    let model = config["model_type"].as_str().unwrap_or_default();
    Ok(SIGNS.iter().find(|sign| sign.model_types.contains(&model)).map(|sign| sign.family))
}

/// The first of the families that the keys of a part are known of.
fn known(part: &Part) -> Option<usize> {
    let has = |keys: &&[&str]| keys.iter().all(|key| part.entries().contains_key(*key));
    SIGNS.iter().position(|sign| sign.keys.iter().any(has))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, path::Path};

    use safetensors::{Dtype, tensor::TensorView};

    use super::*;

    fn weights(path: &Path, keys: &[&str]) {
        let view = || TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        fs::write(path, safetensors::serialize(keys.iter().map(|key| (*key, view())), None).unwrap()).unwrap();
    }

    #[test]
    fn every_family_is_known_by_its_name_its_configuration_and_each_of_its_keys() {
        for sign in &SIGNS {
            assert_eq!(sign.name.parse(), Ok(sign.family));
            assert_eq!(sign.family.to_string(), sign.name);
            for model in sign.model_types {
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join("config.json"), format!(r#"{{"model_type": "{model}"}}"#)).unwrap();
                assert_eq!(Family::of(&Checkpoint::open(dir.path()).unwrap()).unwrap(), sign.family);
            }
            for keys in sign.keys {
                let dir = tempfile::tempdir().unwrap();
                weights(&dir.path().join("a.safetensors"), &["other"]);
                weights(&dir.path().join("b.safetensors"), keys);
                fs::write(dir.path().join("optimizer.pt"), "no weights").unwrap();
                assert_eq!(Family::of(&Checkpoint::open(dir.path()).unwrap()).unwrap(), sign.family, "{keys:?}");
                let file = Checkpoint::open(&dir.path().join("b.safetensors")).unwrap();
                assert_eq!(Family::of(&file).unwrap(), sign.family);
            }
        }
    }

    #[test]
    fn what_is_of_no_family_is_told_with_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let refused = || Family::of(&Checkpoint::open(dir.path()).unwrap()).unwrap_err().to_string();
        let nothing = "emu3, chameleon, openai-dvae, clip, found no tensors, and no config.json";
        assert!(refused().ends_with(nothing), "{}", refused());
        fs::write(dir.path().join("damaged.pt"), "no weights").unwrap();
        assert!(
            refused()
                .ends_with("damaged.pt: not a usable PyTorch file: neither a zip archive nor the format before it")
        );
        weights(&dir.path().join("a.safetensors"), &["strange", "stranger"]);
        let both = "found keys such as strange, stranger, and no config.json; and what cannot be read, ";
        assert!(refused().contains(both) && refused().contains("damaged.pt: not a usable"), "{}", refused());
        fs::remove_file(dir.path().join("damaged.pt")).unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        assert!(refused().ends_with("found keys such as strange, stranger"), "{}", refused());
    }
}
