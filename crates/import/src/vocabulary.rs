//! Checks of a checkpoint's `tokenizer.json` files and its list of words: what the services rely on.

use std::path::Path;

use serde_json::Value;

use crate::{Error, checkpoint};

const TOKENIZER_BYTES: u64 = 64 << 20;
const WORDS_BYTES: u64 = 4 << 20;

fn fail<T>(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Result<T, Error> {
    Err(Error::File { path: path.into(), expected: expected.into(), found: found.into() })
}

/// The sampler's vocabulary: ids below `size`, nothing added, no padding, no truncation.
pub(crate) fn sampler(path: &Path, size: usize) -> Result<(), Error> {
    sampler_json(path, &read(path)?, size)
}

/// As [`sampler`], of a `tokenizer.json` that was made of the file at `path`.
pub(crate) fn sampler_json(path: &Path, tokenizer: &Value, size: usize) -> Result<(), Error> {
    ids_below(path, tokenizer, size)?;
    if tokenizer["post_processor"]["type"] == "TemplateProcessing" {
        return fail(path, "a post_processor that adds no tokens", "TemplateProcessing");
    }
    Ok(())
}

/// CLIP's vocabulary: ids below `size`, an end token that the post-processor adds and that is the highest id, no padding, no truncation.
pub(crate) fn ranker(path: &Path, size: usize, pad: u32) -> Result<(), Error> {
    let tokenizer = read(path)?;
    let highest = ids_below(path, &tokenizer, size)?;
    if u64::from(pad) >= highest {
        return fail(path, format!("an end token above the pad {pad}"), format!("{highest} as the highest id"));
    }
    let post = &tokenizer["post_processor"];
    let last = post["single"].as_array().and_then(|pieces| pieces.last());
    let name = last.and_then(|piece| piece["SpecialToken"]["id"].as_str());
    // Two post-processors of the format end a caption: a template, and the pair of RoBERTa's and BERT's kind, [token, id].
    let end = name.map_or(&post["sep"][1], |name| &post["special_tokens"][name]["ids"][0]);
    if end.as_u64() == Some(highest) {
        return Ok(());
    }
    fail(path, format!("a post_processor that ends with the highest id, {highest}"), end.to_string())
}

/// One lower-case word a line.
pub(crate) fn words(path: &Path) -> Result<(), Error> {
    let text = checkpoint::text(path, WORDS_BYTES)?;
    let wrong = |word: &&str| word.is_empty() || word.contains(char::is_whitespace) || word.to_lowercase() != **word;
    match text.lines().find(wrong) {
        None => Ok(()),
        Some(word) => fail(path, "one lower-case word a line", format!("{word:?}")),
    }
}

fn read(path: &Path) -> Result<Value, Error> {
    let text = checkpoint::text(path, TOKENIZER_BYTES)?;
    let tokenizer: Value = serde_json::from_str(&text).map_err(|source| Error::Json { path: path.into(), source })?;
    match ["padding", "truncation"].into_iter().find(|field| !tokenizer[field].is_null()) {
        None => Ok(tokenizer),
        Some(field) => fail(path, format!("{field} null"), "another value"),
    }
}

/// The highest id, which must be below `size`.
fn ids_below(path: &Path, tokenizer: &Value, size: usize) -> Result<u64, Error> {
    let words = tokenizer["model"]["vocab"].as_object();
    let pieces = tokenizer["model"]["vocab"].as_array().map(|v| v.len() as u64);
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten().filter_map(|t| t["id"].as_u64());
    let ids = words.into_iter().flat_map(|w| w.values().filter_map(Value::as_u64)).chain(added);
    let Some(highest) = ids.chain(pieces.and_then(|n| n.checked_sub(1))).max() else {
        return fail(path, "a vocabulary in model.vocab", "none");
    };
    if highest < size as u64 { Ok(highest) } else { fail(path, format!("ids below {size}"), format!("id {highest}")) }
}
