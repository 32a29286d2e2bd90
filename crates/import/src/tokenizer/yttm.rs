//! YouTokenToMe's model files (ruDALL-E; dalle-pytorch): text with characters, merges and special ids.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use serde_json::{Map, Value, json};

use super::{BYTES, Parts, bpe, clean, wrong};
use crate::{Error, checkpoint};

/// A word begins with it.
const WORD: &str = "▁";
/// Names of the special ids, in the file's order.
const SPECIAL: [&str; 4] = ["<UNK>", "<PAD>", "<BOS>", "<EOS>"];
const PIECES: usize = 1 << 20;

/// The tokenizer of a YouTokenToMe model. With `lower`, a caption is first made lower-case and stripped, as ruDALL-E does.
///
/// # Errors
/// The file cannot be read, or is not such a model.
pub fn yttm(path: &Path, lower: bool) -> Result<Value, Error> {
    let text = checkpoint::text(path, BYTES)?;
    let Some((pieces, merges)) = parse(&text) else {
        return wrong(path, "a YouTokenToMe model", "something else");
    };
    let mut vocab = Map::new();
    for (index, (id, piece)) in pieces.iter().enumerate() {
        if *id != index as u32 {
            return wrong(path, "every id from 0 on", format!("none for {index}"));
        }
        if vocab.insert(piece.clone(), json!(id)).is_some() {
            return wrong(path, "a spelling of its own for each id", format!("{piece:.40?} twice"));
        }
    }
    let mut normalizers = Vec::new();
    if lower {
        normalizers.extend(clean::lower());
        normalizers.push(clean::strip());
    }
    let words =
        json!({"type": "Split", "pattern": {"Regex": "[ \t\n\r\x0b\x0c▁]+"}, "behavior": "Removed", "invert": false});
    let space = json!({"type": "Metaspace", "replacement": WORD, "prepend_scheme": "always", "split": false});
    let tokenizer = Parts {
        normalizer: if normalizers.is_empty() { Value::Null } else { clean::all(normalizers) },
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [words, space]}),
        post_processor: Value::Null,
        decoder: space,
        model: bpe(&Value::Object(vocab), &merges, &json!({"unk_token": SPECIAL[0], "fuse_unk": true})),
        added_tokens: vec![],
    };
    Ok(tokenizer.json())
}

/// Pieces by id, and merges in order.
type Model = (BTreeMap<u32, String>, Vec<[String; 2]>);

/// `characters merges`, then as many lines `code point id`, then as many `left right result`, then the special ids.
fn parse(text: &str) -> Option<Model> {
    let mut lines = text.lines();
    let [characters, count] = numbers::<usize, 2>(lines.next()?)?;
    if characters > PIECES || count > PIECES {
        return None;
    }
    let mut pieces = BTreeMap::new();
    for _ in 0..characters {
        let [code, id] = numbers::<u32, 2>(lines.next()?)?;
        pieces.insert(id, char::from_u32(code)?.to_string());
    }
    let mut merges = Vec::new();
    for _ in 0..count {
        let [left, right, id] = numbers::<u32, 3>(lines.next()?)?;
        let pair = [pieces.get(&left)?.clone(), pieces.get(&right)?.clone()];
        let piece = pair.concat();
        // A piece is at most as long as a word; a file that doubles it with every line is none of YouTokenToMe's.
        if piece.len() > 4096 {
            return None;
        }
        pieces.insert(id, piece);
        merges.push(pair);
    }
    let special = numbers::<i64, 4>(lines.next()?)?;
    for (name, id) in SPECIAL.iter().zip(special) {
        // A special token that the model does without has the id −1.
        if let Ok(id) = u32::try_from(id) {
            pieces.insert(id, (*name).to_owned());
        }
    }
    Some((pieces, merges))
}

/// As many numbers as a line has.
fn numbers<T: FromStr, const N: usize>(line: &str) -> Option<[T; N]> {
    let numbers: Option<Vec<T>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
    numbers?.try_into().ok()
}
