//! Vocabularies in the formats of other projects → Hugging Face's `tokenizer.json`.
//!
//! What a project does to a caption before its vocabulary sees it becomes the `normalizer` of the file, so that nothing that reads it needs to know the
//! project. What such a normalizer cannot say is left out: `docs/models.md` tells what that is.

mod clean;
mod clip;
mod pairs;
mod plain;
mod tiktoken;
mod yttm;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use clip::clip;
pub use pairs::{char_bpe, min_dalle};
pub(crate) use plain::spell;
pub use tiktoken::emu3;
pub use yttm::yttm;

use crate::{
    Error,
    checkpoint::{self, Checkpoint},
};

const BYTES: u64 = 64 << 20;
const JSON: &str = "tokenizer.json";
const CLIP: [&str; 2] = ["bpe_simple_vocab_16e6.txt", "bpe_simple_vocab_16e6.txt.gz"];
const YTTM: [&str; 2] = ["bpe.model", "yttm.model"];

/// A `tokenizer.json` as it is, without the padding and truncation that it may ask for: the services do both.
///
/// # Errors
/// The file cannot be read, or is not JSON.
pub fn tokenizer_json(path: &Path) -> Result<Value, Error> {
    let mut tokenizer = checkpoint::json(path, BYTES)?;
    if let Some(fields) = tokenizer.as_object_mut() {
        fields.insert("padding".into(), Value::Null);
        fields.insert("truncation".into(), Value::Null);
    }
    Ok(tokenizer)
}

/// Puts what DeepFloyd's IF, and those after it, do to a caption before what the vocabulary of a text encoder does.
pub(crate) fn caption(tokenizer: &mut Value) {
    let mut steps = clean::caption();
    steps.extend(Some(tokenizer["normalizer"].take()).filter(|own| !own.is_null()));
    tokenizer["normalizer"] = clean::all(steps);
}

/// The vocabulary beside weights whose own configuration does not say which it is, by its name: `tokenizer.json`, CLIP's, or YouTokenToMe's.
pub(crate) fn beside(checkpoint: &Checkpoint) -> Result<(PathBuf, Value), Error> {
    let (json, path) = if let Some(path) = checkpoint.file(&[JSON]) {
        (tokenizer_json(&path)?, path)
    } else if let Some(path) = checkpoint.file(&CLIP) {
        (clip(&path, false)?, path)
    } else if let Some(path) = checkpoint.file(&YTTM) {
        (yttm(&path, false)?, path)
    } else {
        let expected = format!("{JSON}, {} or {} beside the weights", CLIP.join(", "), YTTM.join(", "));
        return wrong(checkpoint.path(), expected, "none");
    };
    Ok((path, json))
}

/// The parts of a tokenizer that differ from one to another.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Value,
    added_tokens: Vec<Value>,
}

impl Parts {
    fn json(self) -> Value {
        let Self { normalizer, pre_tokenizer, post_processor, decoder, model, added_tokens } = self;
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model,
        })
    }
}

/// A byte-pair model; what is left out is as most have it.
fn bpe(vocab: &Value, merges: &[[String; 2]], other: &Value) -> Value {
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
    });
    for (key, value) in other.as_object().into_iter().flatten() {
        model[key] = value.clone();
    }
    model
}

/// Whether GPT-2's table spells a byte as the character of the same code.
fn is_visible(byte: u32) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Bytes, spelled as characters by GPT-2's table.
fn letters(bytes: &[u8]) -> String {
    let hidden = |byte: u32| 256 + (0..byte).filter(|b| !is_visible(*b)).count() as u32;
    let letter = |byte: u32| if is_visible(byte) { byte } else { hidden(byte) };
    bytes.iter().filter_map(|byte| char::from_u32(letter((*byte).into()))).collect()
}

/// A token that text never becomes.
fn special(id: u64, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
    })
}

/// A post-processor that puts one token before the text and one behind it.
pub(crate) fn ends(first: (&str, u64), last: (&str, u64)) -> Value {
    let token = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let ids = |(name, id): (&str, u64)| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "type": "TemplateProcessing",
        "single": [token(first.0), text("A"), token(last.0)],
        "pair": [token(first.0), text("A"), text("B"), token(last.0)],
        "special_tokens": {first.0: ids(first), last.0: ids(last)},
    })
}

fn wrong<T>(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Result<T, Error> {
    Err(Error::File { path: path.into(), expected: expected.into(), found: found.into() })
}
