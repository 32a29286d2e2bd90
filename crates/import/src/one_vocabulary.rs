//! Models whose image tokens are ids among those of the text (Emu3, Chameleon): what of their one vocabulary is the text's, and what the image's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    Error,
    checkpoint::Tensors,
    layers::Linear,
    llama::Config,
    tensor::Tensor,
    transformer::{Embedding, ImageEmbedding},
};

/// A `tokenizer.json`, its names and their ids.
pub(crate) struct Vocabulary {
    pub(crate) path: PathBuf,
    pub(crate) json: Value,
    ids: BTreeMap<String, u32>,
    size: usize,
}

impl Vocabulary {
    /// `json` is of the file at `path`, of a model that reads ids below `size`.
    pub(crate) fn new(path: PathBuf, mut json: Value, size: usize) -> Self {
        // What a model adds to a text is in the manifest.
        json["post_processor"] = Value::Null;
        let id = |id: &Value| id.as_u64().filter(|id| *id < size as u64).map(|id| id as u32);
        let words = json["model"]["vocab"].as_object().into_iter().flatten();
        let mut ids: BTreeMap<String, u32> = words.filter_map(|(name, i)| Some((name.clone(), id(i)?))).collect();
        let added = json["added_tokens"].as_array().into_iter().flatten();
        ids.extend(added.filter_map(|token| Some((token["content"].as_str()?.to_owned(), id(&token["id"])?))));
        Self { path, json, ids, size }
    }

    /// The id of a token.
    pub(crate) fn id(&self, name: &str) -> Result<u32, Error> {
        self.ids.get(name).copied().ok_or_else(|| Error::File {
            path: self.path.clone(),
            expected: format!("the token {name}, with an id below {}", self.size),
            found: "none".into(),
        })
    }

    /// The ids of the image tokens in the codebook's order, whose names `code` tells.
    pub(crate) fn image(&self, code: impl Fn(&str) -> Option<usize>) -> Result<Vec<u32>, Error> {
        let codes: BTreeMap<usize, u32> = self.ids.iter().filter_map(|(name, id)| Some((code(name)?, *id))).collect();
        if codes.is_empty() || codes.keys().copied().ne(0..codes.len()) {
            let expected = "tokens for all codes from 0 on".into();
            let missing = (0..).find(|code| !codes.contains_key(code)).unwrap_or_default();
            return Err(Error::File { path: self.path.clone(), expected, found: format!("none for {missing}") });
        }
        Ok(codes.into_values().collect())
    }

    /// How many ids the text needs: all, but for image tokens at the end of them.
    pub(crate) fn words(&self, image: &[u32]) -> usize {
        let first = image.iter().min().map_or(self.size, |id| *id as usize);
        if first + image.len() == self.size { first } else { self.size }
    }

    /// Writes the `tokenizer.json` of the text's ids.
    pub(crate) fn write(mut self, file: &Path, words: usize) -> Result<(), Error> {
        let kept = |id: &Value| id.as_u64().is_some_and(|id| id < words as u64);
        if let Some(vocab) = self.json["model"]["vocab"].as_object_mut() {
            vocab.retain(|_, id| kept(id));
        }
        if let Some(added) = self.json["added_tokens"].as_array_mut() {
            added.retain(|token| kept(&token["id"]));
        }
        fs::write(file, self.json.to_string()).map_err(|source| Error::Io { path: file.into(), source })
    }
}

/// Embeddings of the text's `words` ids, and of the image tokens and those behind each row, which have ids of the same table.
pub(crate) fn embedding(
    tensors: &mut Tensors<'_>,
    config: &Config,
    prefix: &str,
    [words, positions]: [usize; 2],
    [image, row_end]: [&[u32]; 2],
) -> Result<Embedding, Error> {
    let width = config.hidden_size;
    let mut text = tensors.take(&format!("{prefix}embed_tokens.weight"), &[config.vocab_size, width])?;
    let image = rows(&text, image.iter().chain(row_end).copied());
    text.values.truncate(words * width);
    text.shape[0] = words;
    let rotary = Some(config.rotary(positions));
    Ok(Embedding { text, image: ImageEmbedding::Table(image), position: None, norm: None, rotary })
}

/// The part of the map `key` to all ids that is to those of the image.
pub(crate) fn head(tensors: &mut Tensors<'_>, config: &Config, key: &str, image: &[u32]) -> Result<Linear, Error> {
    let all = tensors.take(key, &[config.vocab_size, config.hidden_size])?;
    Ok(Linear { weight: rows(&all, image.iter().copied()), bias: None })
}

fn rows(table: &Tensor, ids: impl Iterator<Item = u32>) -> Tensor {
    let width = table.shape[1];
    let values: Vec<f32> = ids.flat_map(|id| &table.values[id as usize * width..][..width]).copied().collect();
    Tensor::new(table.name.clone(), &[values.len() / width, width], values)
}

/// A configuration with what it leaves out, as its family has it.
pub(crate) fn completed(config: &Value, mut defaults: Value) -> Value {
    for (field, value) in config.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        defaults[field] = json!(value);
    }
    defaults
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vocabulary(vocab: Value, size: usize) -> Vocabulary {
        Vocabulary::new("tokenizer.json".into(), json!({"model": {"vocab": vocab}, "added_tokens": []}), size)
    }

    #[test]
    fn image_tokens_are_in_the_codebooks_order_and_every_code_has_one() {
        let code = |name: &str| name.strip_prefix("image ")?.parse().ok();
        let found = vocabulary(json!({"a": 0, "image 1": 1, "image 0": 2, "image 2": 9}), 3).image(code);
        assert_eq!(found.unwrap(), [2, 1]);
        let refused = vocabulary(json!({"a": 0, "image 1": 1}), 3).image(code).unwrap_err().to_string();
        assert!(refused.ends_with("expected tokens for all codes from 0 on, found none for 0"), "{refused}");
    }

    #[test]
    fn image_tokens_at_the_end_are_none_of_the_texts() {
        let vocabulary = vocabulary(json!({"a": 0, "image 1": 1, "image 0": 2}), 3);
        assert_eq!(vocabulary.words(&[2, 1]), 1);
        assert_eq!(vocabulary.words(&[0, 1]), 3);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokenizer.json");
        vocabulary.write(&file, 1).unwrap();
        let written: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(written["model"]["vocab"], json!({"a": 0}));
    }
}
