//! Vocabularies as `vocab.json` (pieces and ids) with `merges.txt` (pairs in order).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BYTES, Parts, bpe, clean, ends, special, wrong};
use crate::{Error, checkpoint};

const END_OF_WORD: &str = "</w>";

/// The tokenizer of minDALL-E: `CharBPETokenizer` of Hugging Face's library, in lower case, with `[UNK]` for what it does not know.
///
/// # Errors
/// A file cannot be read, or is not of this form.
pub fn char_bpe(vocab: &Path, merges: &Path) -> Result<Value, Error> {
    let (pieces, pairs) = read(vocab, merges)?;
    let unknown = id(vocab, &pieces, "[UNK]")?;
    let mut added = vec![special(unknown, "[UNK]")];
    added.extend(pieces.get("[PAD]").and_then(Value::as_u64).map(|id| special(id, "[PAD]")));
    let bert = json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false,
    });
    let tokenizer = Parts {
        normalizer: clean::all(vec![bert, json!({"type": "Lowercase"})]),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        post_processor: Value::Null,
        decoder: json!({"type": "BPEDecoder", "suffix": END_OF_WORD}),
        model: bpe(&Value::Object(pieces), &pairs, &json!({"unk_token": "[UNK]", "end_of_word_suffix": END_OF_WORD})),
        added_tokens: added,
    };
    Ok(tokenizer.json())
}

/// The tokenizer of DALL·E Mini and Mega as min-dalle has it: lower case, ASCII alone, words between spaces, `<s>` before the caption and `</s>` behind it.
///
/// # Errors
/// A file cannot be read, or is not of this form.
pub fn min_dalle(vocab: &Path, merges: &Path) -> Result<Value, Error> {
    let (pieces, pairs) = read(vocab, merges)?;
    let named = |name: &'static str| Ok::<_, Error>((name, id(vocab, &pieces, name)?));
    let (start, end, (unknown, _)) = (named("<s>")?, named("</s>")?, named("<unk>")?);
    let mut normalizers = vec![json!({"type": "Lowercase"}), clean::replace(r"[^\x00-\x7f]", "")];
    normalizers.extend([clean::replace(r"\A +| +\z", ""), clean::replace(" +", " ")]);
    normalizers.extend([json!({"type": "Prepend", "prepend": "Ġ"}), clean::replace(" ", "Ġ")]);
    let words = json!({"type": "Split", "pattern": {"String": "Ġ"}, "behavior": "MergedWithNext", "invert": false});
    let spaces = json!({"type": "Replace", "pattern": {"String": "Ġ"}, "content": " "});
    let tokenizer = Parts {
        normalizer: clean::all(normalizers),
        pre_tokenizer: words,
        post_processor: ends(start, end),
        decoder: json!({"type": "Sequence", "decoders": [spaces, {"type": "Fuse"}]}),
        model: bpe(&Value::Object(pieces), &pairs, &json!({"unk_token": unknown})),
        added_tokens: vec![special(start.1, start.0), special(end.1, end.0)],
    };
    Ok(tokenizer.json())
}

fn id(path: &Path, pieces: &Map<String, Value>, name: &str) -> Result<u64, Error> {
    match pieces.get(name).and_then(Value::as_u64) {
        Some(id) => Ok(id),
        None => wrong(path, format!("an id for {name}"), "none"),
    }
}

/// Pieces with their ids, and pairs of pieces in order.
type Vocabulary = (Map<String, Value>, Vec<[String; 2]>);

/// Reads a vocabulary: both halves of a pair, and the whole, are pieces.
fn read(vocab: &Path, merges: &Path) -> Result<Vocabulary, Error> {
    let Value::Object(pieces) = checkpoint::json(vocab, BYTES)? else {
        return wrong(vocab, "pieces with their ids", "other JSON");
    };
    if let Some((piece, id)) = pieces.iter().find(|(_, id)| id.as_u64().is_none_or(|id| id > u32::MAX.into())) {
        return wrong(vocab, format!("an id for {piece:.40?}"), id.to_string());
    }
    let text = checkpoint::text(merges, BYTES)?;
    let mut pairs = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")) {
        let pair = line.split_once(' ').map(|(left, right)| [left.to_owned(), right.to_owned()]);
        let known = |pair: &[String; 2]| pair.iter().chain([&pair.concat()]).all(|piece| pieces.contains_key(piece));
        match pair.filter(known) {
            Some(pair) => pairs.push(pair),
            None => return wrong(merges, "a pair of pieces of the vocabulary a line", format!("{line:.40?}")),
        }
    }
    Ok((pieces, pairs))
}
