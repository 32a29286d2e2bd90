//! CLIP's vocabulary: `bpe_simple_vocab_16e6.txt`, as text or packed with gzip.

use std::{collections::HashSet, fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use super::{BYTES, Parts, bpe, clean, ends, is_visible, special, wrong};
use crate::{Error, checkpoint};

/// Pairs that CLIP takes of the file, which has many more.
const MERGES: usize = 49152 - 256 - 2;
const END_OF_WORD: &str = "</w>";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// What a word is; contractions and single digits are words of their own.
const WORD: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// CLIP's tokenizer (openai/CLIP `simple_tokenizer.py`; dalle-pytorch's is the same). With `ends`, it puts the start token before a caption and the end
/// token behind it, as CLIP reads it; else neither, as dalle-pytorch does.
///
/// # Errors
/// The file cannot be read, or a line of it is not a pair of pieces.
pub fn clip(path: &Path, ends: bool) -> Result<Value, Error> {
    let text = text(path)?;
    let mut pieces: Vec<String> = alphabet().map(String::from).collect();
    pieces.extend(alphabet().map(|c| format!("{c}{END_OF_WORD}")));
    let mut merges = Vec::new();
    for line in text.split('\n').skip(1).take(MERGES).filter(|line| !line.is_empty()) {
        let Some((left, right)) = line.split_once(' ') else {
            return wrong(path, "a pair of pieces a line", format!("{line:.40?}"));
        };
        pieces.push(format!("{left}{right}"));
        merges.push([left.to_owned(), right.to_owned()]);
    }
    let known: HashSet<&String> = pieces.iter().collect();
    if let Some([left, right]) = merges.iter().find(|pair| pair.iter().any(|piece| !known.contains(piece))) {
        return wrong(path, "pairs of pieces that are known", format!("{left:.40?} and {right:.40?}"));
    }
    let (start, end) = (pieces.len() as u64, pieces.len() as u64 + 1);
    let mut vocab: Map<String, Value> = pieces.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    vocab.extend([(START.to_owned(), json!(start)), (END.to_owned(), json!(end))]);
    Ok(tokenizer(&Value::Object(vocab), &merges, (start, end), ends))
}

fn tokenizer(vocab: &Value, merges: &[[String; 2]], (start, end): (u64, u64), with_ends: bool) -> Value {
    let mut normalizers = clean::ftfy();
    normalizers.extend([clean::replace(r"\s+", " "), clean::strip()]);
    normalizers.extend(clean::lower());
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let words = json!({"type": "Split", "pattern": {"Regex": WORD}, "behavior": "Removed", "invert": true});
    // The end of a word is a space, as this decoder's alphabet spells it.
    let spaces = json!({"type": "Replace", "pattern": {"String": END_OF_WORD}, "content": "Ġ"});
    Parts {
        normalizer: clean::all(normalizers),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [words, byte_level]}),
        post_processor: if with_ends { ends((START, start), (END, end)) } else { Value::Null },
        decoder: json!({"type": "Sequence", "decoders": [spaces, byte_level]}),
        model: bpe(vocab, merges, &json!({"end_of_word_suffix": END_OF_WORD})),
        added_tokens: vec![special(start, START), special(end, END)],
    }
    .json()
}

fn text(path: &Path) -> Result<String, Error> {
    checkpoint::size(path)?;
    let io = |source| Error::Io { path: path.into(), source };
    let mut head = Vec::new();
    fs::File::open(path).and_then(|file| file.take(2).read_to_end(&mut head)).map_err(io)?;
    if head != GZIP {
        return checkpoint::text(path, BYTES);
    }
    let mut text = String::new();
    let packed = fs::File::open(path).map_err(io)?;
    GzDecoder::new(packed).take(BYTES).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// The characters that stand for bytes (GPT-2's table), in the order of CLIP's ids.
fn alphabet() -> impl Iterator<Item = char> {
    let hidden = (0..256).filter(|b| !is_visible(*b)).count() as u32;
    (0..256).filter(|b| is_visible(*b)).chain(256..256 + hidden).filter_map(char::from_u32)
}
