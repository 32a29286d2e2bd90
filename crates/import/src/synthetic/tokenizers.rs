//! Two byte-level BPE vocabularies, as Hugging Face `tokenizer.json`: the 256 bytes and a few merges; CLIP's adds the start and end of a caption.

use serde_json::{Map, Value, json};

/// Pairs in order of their rank; `Ġ` is a space.
const MERGES: [[&str; 2]; 12] = [
    ["Ġ", "a"],
    ["Ġ", "r"],
    ["Ġr", "e"],
    ["Ġre", "d"],
    ["o", "n"],
    ["Ġ", "on"],
    ["t", "h"],
    ["Ġ", "th"],
    ["Ġth", "e"],
    ["c", "a"],
    ["Ġ", "ca"],
    ["Ġca", "r"],
];

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Ids of the sampler's vocabulary.
pub(super) fn size() -> u32 {
    256 + MERGES.len() as u32
}

/// The list of words.
pub(super) fn words() -> String {
    ["a", "beach", "car", "on", "red", "the"].map(|word| format!("{word}\n")).concat()
}

/// The characters that stand for bytes (GPT-2's table), in the order of ids.
fn alphabet() -> Vec<char> {
    let visible = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..256).filter(|b| !visible(b)).count() as u32;
    let characters = (0..256).filter(visible).chain(256..256 + hidden);
    characters.filter_map(char::from_u32).collect()
}

fn vocabulary() -> Map<String, Value> {
    let merged = MERGES.iter().map(|pair| pair.concat());
    let words = alphabet().into_iter().map(String::from).chain(merged);
    words.zip(0..).map(|(word, id)| (word, json!(id))).collect()
}

fn tokenizer(added_tokens: &Value, post_processor: &Value) -> Value {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": byte_level, "post_processor": post_processor, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary(), "merges": MERGES,
        },
    })
}

/// `tokenizer.json`.
pub(super) fn sampler() -> Value {
    tokenizer(&json!([]), &Value::Null)
}

/// `ranker_tokenizer.json`.
pub(super) fn ranker() -> Value {
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true,
        })
    };
    let token = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let ids = |id: u32, name: &str| json!({"id": name, "ids": [id], "tokens": [name]});
    let template = json!({
        "type": "TemplateProcessing", "single": [token(START), text("A", 0), token(END)], "pair": [text("A", 0), text("B", 1)],
        "special_tokens": {END: ids(size() + 1, END), START: ids(size(), START)},
    });
    tokenizer(&json!([special(size(), START), special(size() + 1, END)]), &template)
}
