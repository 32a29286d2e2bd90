#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

const LENGTH: u32 = 64;

fn load(json: &Value, length: u32, size: u32) -> Result<Vocabulary, Error> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    Vocabulary::load(&path, length, size, None)
}

fn special(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    })
}

/// GPT-2's table: the characters that stand for bytes.
fn alphabet() -> Vec<String> {
    let visible = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let chars = (0..256).filter(visible).chain(256..324).filter_map(char::from_u32);
    chars.map(String::from).collect()
}

/// Byte-level BPE that knows "Ġred" and, from two bytes, "é"; NFC and lower case before.
fn byte_level(post_processor: &Value, added: &Value) -> Value {
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let merges = [["Ġ", "r"], ["Ġr", "e"], ["Ġre", "d"], ["Ã", "©"]];
    let pieces = alphabet().into_iter().chain(merges.map(|pair| pair.concat()));
    let vocab: serde_json::Map<_, _> = pieces.zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": level, "post_processor": post_processor, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges,
        },
    })
}

/// As [`byte_level`], with a start (260) and an end (261) token.
fn with_ends() -> Value {
    let ids = |id: u32, name: &str| json!({"id": name, "ids": [id], "tokens": [name]});
    let token = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = json!({
        "type": "TemplateProcessing", "single": [token("<start>"), text, token("<end>")], "pair": [text],
        "special_tokens": {"<start>": ids(260, "<start>"), "<end>": ids(261, "<end>")},
    });
    byte_level(&template, &json!([special(260, "<start>"), special(261, "<end>")]))
}

fn covered(vocabulary: &Vocabulary, prompt: &str) -> Vec<(String, String, bool)> {
    let (tokens, _) = vocabulary.encode(prompt).unwrap();
    let covered = |token: Token| (token.piece, prompt[token.span.0..token.span.1].to_owned(), token.unknown);
    tokens.into_iter().map(covered).collect()
}

fn row(piece: &str, text: &str, unknown: bool) -> (String, String, bool) {
    (piece.into(), text.into(), unknown)
}

#[test]
fn spans_are_bytes_of_the_prompt_as_it_was_written() {
    let vocabulary = load(&byte_level(&Value::Null, &json!([])), LENGTH, 260).unwrap();
    // Upper case; é in two code points, which NFC makes one; é in one; then text behind both.
    let prompt = "RED e\u{301}\u{e9} Red";
    let expected = [
        row("Ġred", "RED", false),
        row("Ġ", " ", false),
        row("Ã©", "e\u{301}", false),
        row("Ã©", "\u{e9}", false),
        row("Ġred", " Red", false),
    ];
    assert_eq!(covered(&vocabulary, prompt), expected);
    // Hangul in three parts, which NFC makes one character of three bytes.
    let rows = covered(&vocabulary, "\u{1112}\u{1161}\u{11ab}red");
    assert!(rows[1..4].iter().all(|row| row.1 == "\u{1112}\u{1161}\u{11ab}" && row.2), "{rows:?}");
}

#[test]
fn a_character_without_a_piece_is_unknown_in_each_of_its_bytes() {
    let vocabulary = load(&byte_level(&Value::Null, &json!([])), LENGTH, 260).unwrap();
    let rows = covered(&vocabulary, "\u{1f951}red é!");
    let avocado: Vec<_> = rows.iter().filter(|row| row.1 == "\u{1f951}").collect();
    assert_eq!(avocado.len(), 5, "the space before it and four bytes: {rows:?}");
    assert!(avocado[1..].iter().all(|row| row.2));
    assert!(rows.iter().filter(|row| row.1 != "\u{1f951}").all(|row| !row.2), "{rows:?}");
}

#[test]
fn special_text_stays_text() {
    let vocabulary = load(&with_ends(), LENGTH, 262).unwrap();
    let (tokens, truncated) = vocabulary.encode("red<end> <start>").unwrap();
    assert!(!truncated);
    let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
    assert_eq!((ids[0], ids[ids.len() - 1]), (260, 261));
    assert!(ids[1..ids.len() - 1].iter().all(|id| *id < 260), "{ids:?}");
    assert_eq!((tokens[0].span, tokens[ids.len() - 1].span), ((0, 0), (0, 0)));
    assert_eq!(tokens[1].span, (0, 3));
    assert_eq!(vocabulary.decode(&ids).unwrap().trim(), "red<end> <start>");
}

#[test]
fn truncation_keeps_what_stands_behind_the_text() {
    let vocabulary = load(&with_ends(), 4, 262).unwrap();
    let ids = |prompt: &str| {
        let (tokens, truncated) = vocabulary.encode(prompt).unwrap();
        (tokens.iter().map(|token| token.id).collect::<Vec<_>>(), truncated)
    };
    let red = 258;
    assert_eq!(ids("red red"), (vec![260, red, red, 261], false));
    assert_eq!(ids("red red red"), (vec![260, red, red, 261], true));
    let (long, truncated) = ids(&"red ".repeat(4000));
    assert_eq!((long, truncated), (vec![260, red, red, 261], true));
}

#[test]
fn truncation_and_padding_of_the_file_do_not_count() {
    let mut json = byte_level(&Value::Null, &json!([]));
    json["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({
        "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    });
    let (tokens, truncated) = load(&json, LENGTH, 260).unwrap().encode("red red red").unwrap();
    assert_eq!((tokens.len(), truncated), (3, false));
}

#[test]
fn words_without_a_piece_are_unknown() {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(0, "[UNK]")],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "red": 2, "[END]": 3}, "unk_token": "[UNK]"},
    });
    let vocabulary = load(&json, LENGTH, 4).unwrap();
    let expected = [row("a", "A", false), row("red", "red", false), row("[UNK]", "zébra", true)];
    assert_eq!(covered(&vocabulary, "A red zébra"), expected);
    assert_eq!(vocabulary.encode(" \t").unwrap(), (vec![], false));
}

#[test]
fn a_vocabulary_that_takes_text_for_a_special_token_refuses_it() {
    // Unigram finds "</s>" among its pieces, whatever the tokenizer was told of special tokens.
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special(1, "</s>")],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "ByteFallback"},
        "model": {
            "type": "Unigram", "unk_id": 0, "byte_fallback": true,
            "vocab": [["<unk>", 0.0], ["</s>", 0.0], ["a", -1.0], ["<0xC3>", -9.0], ["<0xA9>", -9.0], ["s", -2.0]],
        },
    });
    let vocabulary = load(&json, LENGTH, 6).unwrap();
    assert!(matches!(vocabulary.encode("as</s>"), Err(Error::Prompt(_))));
    let rows = covered(&vocabulary, "aés");
    let expected = [row("a", "a", false), row("<0xC3>", "é", true), row("<0xA9>", "é", true), row("s", "s", false)];
    assert_eq!(rows, expected);
    assert_eq!(vocabulary.decode(&[2, 3, 4, 5]).unwrap(), "aés");
}

#[test]
fn a_template_stands_around_the_prompt() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, with_ends().to_string()).unwrap();
    let template = Template { before: "a:".into(), after: " b".into() };
    let vocabulary = Vocabulary::load(&path, 9, 262, Some(&template)).unwrap();
    let spelled = |prompt: &str| {
        let (tokens, truncated) = vocabulary.encode(prompt).unwrap();
        (tokens.into_iter().map(|token| (token.piece, token.span)).collect::<Vec<_>>(), truncated)
    };
    let piece = |piece: &str, start: usize, end: usize| (piece.to_owned(), (start, end));
    let before = [piece("<start>", 0, 0), piece("Ġ", 0, 0), piece("a", 0, 0), piece(":", 0, 0)];
    let after = [piece("Ġ", 0, 0), piece("b", 0, 0), piece("<end>", 0, 0)];
    let whole = |own: &[(String, (usize, usize))]| [&before, own, &after].concat();
    assert_eq!(spelled(" red"), (whole(&[piece("Ġred", 0, 4)]), false));
    assert_eq!(
        spelled("xyz"),
        (whole(&[piece("x", 0, 1), piece("y", 1, 2)]), true),
        "the caption is cut, not the template"
    );
}

#[test]
fn unknown_ids_are_named() {
    let vocabulary = load(&byte_level(&Value::Null, &json!([])), LENGTH, 260).unwrap();
    assert!(matches!(vocabulary.decode(&[1, 2, 260]), Err(Error::Id { index: 2, id: 260 })));
    assert_eq!(vocabulary.decode(&[]).unwrap(), "");
}

#[test]
fn a_vocabulary_that_does_not_fit_its_model_is_refused() {
    let message = |json: &Value, length, size| load(json, length, size).err().unwrap().to_string();
    let refused = message(&with_ends(), LENGTH, 261);
    assert!(refused.ends_with("tokenizer.json: expected ids below 261, found id 261"), "{refused}");
    let refused = message(&with_ends(), 1, 262);
    assert!(refused.ends_with("expected room for text within 1 tokens, found 2 that are always added"), "{refused}");
    let refused = message(&json!({"version": "1.0"}), LENGTH, 262);
    assert!(refused.contains("expected a tokenizer.json of the tokenizers library, found "), "{refused}");
}
