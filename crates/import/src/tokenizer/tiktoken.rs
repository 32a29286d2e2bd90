//! Emu3's own vocabulary: pieces with their ranks, as tiktoken keeps them, and a list of special tokens.

use std::{collections::HashMap, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{BYTES, Parts, bpe, letters, special, wrong};
use crate::{Error, checkpoint};

/// Special tokens before the numbered ones, whose ids follow those of the pieces.
const FIRST: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// As many are called `<|extra_0|>` and so on; behind them come those of the list.
const EXTRAS: usize = 205;
/// Bytes of a piece at most: a line of spaces is the longest in use.
const PIECE: usize = 256;
const WORD: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer of Emu3: `ranks` is `emu3.tiktoken`, `specials` `emu3_vision_tokens.txt`.
///
/// # Errors
/// A file cannot be read, or is not of this form.
pub fn emu3(ranks: &Path, specials: &Path) -> Result<Value, Error> {
    let pieces = pieces(ranks)?;
    let known: HashMap<&[u8], usize> = pieces.iter().enumerate().map(|(id, piece)| (&**piece, id)).collect();
    let mut vocab: Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (letters(piece), json!(id))).collect();
    if vocab.len() < pieces.len() {
        return wrong(ranks, "each piece once", "one twice");
    }
    let merges = merges(&pieces, &known);
    let extras = (0..EXTRAS).map(|i| format!("<|extra_{i}|>"));
    let list = checkpoint::text(specials, BYTES)?;
    let names = FIRST.map(String::from).into_iter().chain(extras);
    let names = names.chain(list.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from));
    let mut added_tokens = Vec::new();
    for (name, id) in names.zip(pieces.len() as u64..) {
        added_tokens.push(special(id, &name));
        if vocab.insert(name.clone(), json!(id)).is_some() {
            return wrong(specials, "each special token once", format!("{name:.40?} twice"));
        }
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let words = json!({"type": "Split", "pattern": {"Regex": WORD}, "behavior": "Isolated", "invert": false});
    let tokenizer = Parts {
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [words, byte_level]}),
        post_processor: Value::Null,
        decoder: byte_level,
        model: bpe(&Value::Object(vocab), &merges, &json!({"ignore_merges": true})),
        added_tokens,
    };
    Ok(tokenizer.json())
}

/// Pieces in the order of their ranks, which are the numbers from 0 on.
fn pieces(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let text = checkpoint::text(path, BYTES)?;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let parsed = line.split_once(' ').and_then(|(piece, rank)| Some((STANDARD.decode(piece).ok()?, rank)));
        let fits = |piece: &[u8]| (1..=PIECE).contains(&piece.len());
        match parsed {
            Some((piece, rank)) if fits(&piece) && rank.parse() == Ok(pieces.len()) => pieces.push(piece),
            _ => {
                let expected = format!("a piece of 1 … {PIECE} bytes in base64 and its rank {}", pieces.len());
                return wrong(path, expected, format!("{line:.40?}"));
            }
        }
    }
    Ok(pieces)
}

/// Every pair of pieces that is a piece, by its rank: what tiktoken joins.
fn merges(pieces: &[Vec<u8>], known: &HashMap<&[u8], usize>) -> Vec<[String; 2]> {
    let mut merges = Vec::new();
    for piece in pieces {
        let halves = (1..piece.len()).map(|at| piece.split_at(at));
        let mut pairs: Vec<_> = halves.filter_map(|(a, b)| Some((known.get(a)?, known.get(b)?, [a, b]))).collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(_, _, pair)| pair.map(letters)));
    }
    merges
}
