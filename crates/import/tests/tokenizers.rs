//! Vocabularies of other projects, converted, against the originals: `tests/fixtures/tokenizers/make.py`.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use easel_import::{Error, tokenizer};
use flate2::{Crc, read::GzDecoder};
use serde_json::Value;
use tokenizers::Tokenizer;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name)
}

fn expected() -> Value {
    serde_json::from_reader(GzDecoder::new(File::open(fixture("expected.json.gz")).unwrap())).unwrap()
}

/// As the tokenizer service reads a vocabulary.
fn load(json: &Result<Value, Error>) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_bytes(json.as_ref().unwrap().to_string()).unwrap();
    tokenizer.set_encode_special_tokens(true);
    tokenizer
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

/// The converted vocabulary makes of every caption what the original made of it.
#[track_caller]
fn assert_equal(name: &str, json: &Result<Value, Error>) {
    let (tokenizer, expected) = (load(json), expected());
    let captions = expected["captions"].as_array().unwrap();
    assert!(captions.len() >= 1000, "{}", captions.len());
    let different: Vec<String> = captions
        .iter()
        .zip(expected["checksums"][name].as_array().unwrap())
        .filter_map(|(caption, checksum)| {
            let caption = caption.as_str().unwrap();
            let (found, mut crc) = (ids(&tokenizer, caption), Crc::new());
            found.iter().for_each(|id| crc.update(&(*id as u16).to_le_bytes()));
            (Some(u64::from(crc.sum())) != checksum.as_u64()).then(|| format!("{caption:?}: {found:?}"))
        })
        .collect();
    assert!(
        different.is_empty(),
        "{} of {}:\n{}",
        different.len(),
        captions.len(),
        different[..different.len().min(20)].join("\n")
    );
}

#[test]
fn clip_is_equal() {
    assert_equal("clip", &tokenizer::clip(&fixture("bpe_simple_vocab_16e6.txt"), false));
}

#[test]
fn clip_has_its_ends_and_reads_packed_files() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("bpe_simple_vocab_16e6.txt.gz");
    let mut gzip = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    gzip.write_all(&fs::read(fixture("bpe_simple_vocab_16e6.txt")).unwrap()).unwrap();
    gzip.finish().unwrap();
    let tokenizer = load(&tokenizer::clip(&packed, true));
    let (start, end) = (512 + 600, 512 + 601);
    let found = ids(&tokenizer, "A red cat <|endoftext|>");
    assert_eq!((found[0], found[found.len() - 1]), (start, end));
    assert!(found[1..found.len() - 1].iter().all(|id| *id < start), "{found:?}");
    assert_eq!(
        tokenizer.decode(&ids(&tokenizer, "The café: a RED cat!"), true).unwrap().trim(),
        "the café : a red cat !"
    );
}

#[test]
fn youtokentome_is_equal() {
    assert_equal("yttm", &tokenizer::yttm(&fixture("bpe.model"), false));
    assert_equal("yttm_lower", &tokenizer::yttm(&fixture("bpe.model"), true));
}

#[test]
fn pairs_are_equal() {
    assert_equal("char_bpe", &tokenizer::char_bpe(&fixture("char-vocab.json"), &fixture("char-merges.txt")));
    assert_equal("min_dalle", &tokenizer::min_dalle(&fixture("mini-vocab.json"), &fixture("mini-merges.txt")));
}

#[test]
fn a_tokenizer_json_is_passed_through_without_padding() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut json = tokenizer::yttm(&fixture("bpe.model"), false).unwrap();
    json["padding"] = serde_json::json!({"strategy": "BatchLongest"});
    fs::write(&path, json.to_string()).unwrap();
    let passed = tokenizer::tokenizer_json(&path).unwrap();
    assert_eq!((&passed["padding"], &passed["model"]), (&Value::Null, &json["model"]));
}

#[test]
fn what_is_no_vocabulary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let message = |json: Result<Value, Error>| json.unwrap_err().to_string();
    let clip = |text: &str| message(tokenizer::clip(&file("clip.txt", text), false));
    assert!(clip("#version\na b\nabc").ends_with("clip.txt: expected a pair of pieces a line, found \"abc\""));
    assert!(clip("#version\nabc d").contains("expected pairs of pieces that are known"));
    for text in [
        "",
        "1",
        "1 0\n97 0",
        "99999999999 0",
        "1 1\n97 4\n4 5 6\n0 1 2 3",
        "1 0\n55296 4\n0 1 2 3",
        "1 0\n97 9\n0 1 2 3",
    ] {
        assert!(message(tokenizer::yttm(&file("y.model", text), false)).contains("y.model: expected "), "{text}");
    }
    let doubled: String = (5..60).map(|id| format!("{} {} {id}\n", id - 1, id - 1)).collect();
    let doubled = format!("1 55\n97 4\n{doubled}0 1 2 3\n");
    assert!(message(tokenizer::yttm(&file("y.model", &doubled), false)).contains("a YouTokenToMe model"));
    let pairs =
        |vocab: &str, merges: &str| message(tokenizer::char_bpe(&file("v.json", vocab), &file("m.txt", merges)));
    assert!(pairs("[]", "").contains("pieces with their ids"));
    assert!(pairs(r#"{"a": -1}"#, "").contains("an id for \"a\""));
    assert!(pairs(r#"{"a": 0}"#, "").contains("an id for [UNK]"));
    assert!(pairs(r#"{"a": 0, "[UNK]": 1}"#, "a b").contains("a pair of pieces of the vocabulary a line"));
}
