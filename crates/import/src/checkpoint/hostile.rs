//! Files that somebody damaged or made to do harm: each is an error or plain data, within a bound of memory, and nothing of it runs.
#![allow(clippy::unwrap_used)]

mod memory;
mod write;

use std::{fs, io::Read as _, path::Path, sync::Arc};

use super::{Part, entry::Entry, safetensors, source::Source, torch, zip::Archive};
use write::{Member, archive, member, pickle};

/// Bytes that reading one of these small files may take.
const MEMORY: usize = 96 << 20;
/// How often each file is damaged in each way.
const ROUNDS: usize = 130;
/// The same of a whole import.
const FAMILY_ROUNDS: usize = 60;
const FILES: [&str; 8] = [
    "state.pt",
    "state.old.pt",
    "deflated.pt",
    "module.pkl",
    "module.old.pkl",
    "script.pt",
    "nested.pt",
    "lightning.ckpt",
];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)).unwrap()
}

/// Reads all that is in a file, as an import would; an error's message, or how many numbers there were.
fn read(name: &str, bytes: Vec<u8>) -> Result<usize, String> {
    let (path, source) = (Path::new(name), Arc::new(Source::Bytes(bytes)));
    let entries = match name.ends_with(".safetensors") {
        true => safetensors::read(path, &source).map_err(|error| error.to_string())?,
        false => torch::read(path, &source).map_err(|error| error.to_string())?.0,
    };
    let values = entries.values().filter_map(Entry::values);
    values.map(|values| values.map(|v| v.len()).map_err(|error| error.to_string())).sum()
}

/// As [`read`], within the bound of memory.
#[track_caller]
fn bounded(name: &str, bytes: Vec<u8>) -> Result<usize, String> {
    let (result, peak) = memory::peak(|| read(name, bytes));
    assert!(peak < MEMORY, "{name}: {peak} bytes were taken at once");
    result
}

/// The message with which a pickle, as that of an archive, is refused.
#[track_caller]
fn refused(pickle: &[u8]) -> String {
    let members = [member("x/data.pkl", pickle), member("x/data/0", &[0; 64])];
    bounded("x.pt", archive(&members)).expect_err("it is refused")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n.max(1) as u64) as usize
    }

    /// Damages bytes in one of six ways.
    fn damage(&mut self, bytes: &mut Vec<u8>, way: usize) {
        let (at, length) = (self.below(bytes.len()), 1 + self.below(16));
        let end = bytes.len().min(at + length);
        match way {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes.truncate(at),
            2 => bytes[at..end].fill(0xff),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => (0..length).for_each(|_| {
                let at = self.below(bytes.len());
                bytes[at] = self.below(256) as u8;
            }),
        }
    }
}

/// The members of an archive, to be damaged one by one and put together again.
fn members(bytes: &[u8]) -> Vec<Member> {
    let zip = Archive::open(&Arc::new(Source::Bytes(bytes.to_vec()))).unwrap();
    zip.names().map(|name| member(name, &zip.read(name, 1 << 20).unwrap())).collect()
}

#[test]
fn ten_thousand_damaged_files_are_errors_or_plain_data() {
    let mut random = Random(4);
    let (mut cases, mut errors) = (0, 0);
    let mut try_one = |name: &str, bytes: Vec<u8>| {
        cases += 1;
        errors += usize::from(bounded(name, bytes).is_err());
    };
    let safetensors = write::safetensors();
    for (name, whole) in FILES.iter().map(|name| (*name, fixture(name))).chain([("x.safetensors", safetensors)]) {
        for round in 0..ROUNDS * 6 {
            let mut bytes = whole.clone();
            random.damage(&mut bytes, round % 6);
            try_one(name, bytes);
        }
        if !whole.starts_with(b"PK") {
            continue;
        }
        // The same within the archive, with checksums that are right again.
        let parts = members(&whole);
        let pickle = parts.iter().position(|m| m.name.ends_with("/data.pkl")).unwrap();
        for round in 0..ROUNDS * 5 {
            let mut parts = parts.clone();
            random.damage(&mut parts[pickle].bytes, round % 6);
            try_one(name, archive(&parts));
        }
    }
    assert!(cases >= 10_000, "{cases}");
    // What is left are changes of numbers without a checksum, of names and of what lies beside the tensors.
    assert!(errors * 10 > cases * 7, "{errors} of {cases}");
}

#[test]
fn a_changed_number_in_an_archive_is_found() {
    let whole = fixture("state.pt");
    let zip = Archive::open(&Arc::new(Source::Bytes(whole.clone()))).unwrap();
    let storage = zip.storage("state/data/0").unwrap();
    let mut bytes = whole;
    bytes[storage.start as usize + 5] ^= 4;
    assert!(bounded("state.pt", bytes).unwrap_err().contains("the checksum is wrong: the file is damaged"));
}

#[test]
fn nothing_that_a_pickle_asks_for_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let command = format!("touch {}", mark.display());
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "check_output")]
    {
        let call = pickle().global(module, name).text(&command).tuple(1).op(b'R');
        // As the whole, as the state of an object, and as an entry beside tensors.
        let whole = call.clone().stop();
        let state = pickle().global("torch", "Any").op(b')').op(0x81).then(&call).op(b'b').stop();
        let beside = pickle().op(b'}').text("hparams").then(&call).op(b's').stop();
        for bytes in [whole, state, beside] {
            let members = [member("x/data.pkl", &bytes)];
            assert_eq!(bounded("x.pt", archive(&members)), Ok(0));
        }
        let path = dir.path().join("x.pt");
        fs::write(&path, archive(&[member("x/data.pkl", &pickle().op(b'}').text("a").then(&call).op(b's').stop())]))
            .unwrap();
        assert!(Part::open(&path).unwrap().beside()["a"]["__class__"].as_str() == Some(&format!("{module}.{name}")));
    }
    assert!(!mark.exists());
}

#[test]
fn values_within_themselves_or_too_deep_are_refused() {
    let cycle = pickle().op(b']').put(0).get(0).op(b'a').stop();
    assert!(refused(&cycle).contains("more than 100 deep"));
    let cycle = pickle().op(b'}').put(0).text("a").get(0).op(b's').stop();
    assert!(refused(&cycle).contains("more than 100 deep"));
    let deep = [vec![b']'; 200_000], vec![b'a'; 199_999], vec![b'.']].concat();
    assert!(refused(&deep).contains("more than 100 deep"));
    // A list of the list before it, twice, and so on: 2^60 values from a few hundred bytes.
    let mut laughs = pickle().op(b']').put(0);
    for i in 0..60 {
        laughs = laughs.op(b'(').get(i).get(i).op(b'l').put(i + 1);
    }
    assert!(refused(&laughs.stop()).contains("some of them many times"));
}

#[test]
fn what_was_remembered_cannot_fill_the_memory() {
    let long = "x".repeat(1 << 18);
    let start = |text: &str| pickle().text(text).put(0).op(b'0');
    let mut copies = start(&long).global("_codecs", "encode").put(1).op(b'0');
    for _ in 0..1000 {
        copies = copies.get(1).get(0).tuple(1).op(b'R');
    }
    assert!(refused(&copies.stop()).contains("bytes of them"));
    let mut names = start(&long);
    for _ in 0..1000 {
        names = names.get(0).get(0).op(0x93);
    }
    assert!(refused(&names.stop()).contains("a name of more than"));
    let many = [vec![b'N'; 500_001], vec![b'.']].concat();
    assert!(refused(&many).contains("more than 500000 values"));
    let mut turns = vec![b'N'];
    turns.extend([b'2', b'0'].repeat(1_000_001));
    assert!(refused(&turns).contains("more than 2000000 instructions"));
    for opcode in [b'X', 0x8b, 0x8d, 0x8e, 0x96] {
        assert!(refused(&[&[opcode][..], &[0xff; 8], b"."].concat()).contains("it ends in the middle"));
    }
}

#[test]
fn tensors_that_reach_beyond_their_storage_are_refused() {
    let tensor = |count: i32, offset: i32, shape: &[i32], strides: &[i32]| {
        let one = pickle().op(b'}').text("a").then(&write::tensor(count, offset, shape, strides)).op(b's').stop();
        bounded("x.pt", archive(&[member("x/data.pkl", &one), member("x/data/0", &[0; 64])]))
    };
    assert_eq!(tensor(16, 0, &[4, 4], &[4, 1]), Ok(16));
    let refused = |count, offset, shape: &[i32], strides: &[i32]| tensor(count, offset, shape, strides).unwrap_err();
    assert!(refused(16, 1, &[4, 4], &[4, 1]).ends_with("tensor a: shape [4, 4] reaches beyond its storage"));
    assert!(refused(17, 0, &[4, 4], &[4, 1]).ends_with("tensor a: its storage has 64 bytes, not 17 numbers"));
    assert!(refused(16, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0]).contains("reaches beyond"));
    assert!(refused(16, 0, &[i32::MAX], &[0]).contains("reaches beyond"));
    assert!(refused(16, 0, &[4], &[]).contains("reaches beyond"));
    assert!(refused(16, -1, &[4], &[1]).contains("makes no sense"));
    assert!(refused(16, 0, &[4], &[-1]).contains("makes no sense"));
    assert!(refused(16, 0, &[-4], &[1]).contains("makes no sense"));
    assert!(refused(16, 0, &[1; 17], &[1; 17]).contains("makes no sense"));
}

#[test]
fn archives_that_promise_too_much_are_refused() {
    let none = pickle().op(b'N').stop();
    let lying = |change: &dyn Fn(&mut Member)| {
        let mut one = member("x/data.pkl", &none);
        change(&mut one);
        bounded("x.pt", archive(&[one])).unwrap_err()
    };
    assert!(lying(&|m| (m.method, m.claimed) = (8, u32::MAX - 1)).contains("bytes are packed into"));
    assert!(lying(&|m| (m.method, m.claimed) = (8, 40 << 20)).contains("at most 33554432 are read"));
    assert!(lying(&|m| m.claimed = 5).contains("packed in another way"));
    assert!(lying(&|m| m.method = 12).contains("packed in another way"));
    assert!(lying(&|m| m.crc ^= 1).contains("the checksum is wrong"));
    assert!(lying(&|m| m.name = "x/other".into()).contains("a zip archive without data.pkl"));
    assert!(lying(&|m| m.header += 1).contains("not where the table of members says"));
    // What really is packed to a thousandth of its size.
    let mut packed = Vec::new();
    flate2::read::DeflateEncoder::new(std::io::repeat(0).take(1 << 20), flate2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    let bomb = Member { method: 8, claimed: 100, ..member("x/data.pkl", &packed) };
    assert!(bounded("x.pt", archive(&[bomb])).is_err());
}

#[test]
fn headers_of_safetensors_that_make_no_sense_are_refused() {
    let refused = |header: &str, bytes: usize| {
        let length = (header.len() as u64).to_le_bytes();
        bounded("x.safetensors", [&length, header.as_bytes(), &vec![0; bytes]].concat()).unwrap_err()
    };
    let one =
        |shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    for (shape, offsets) in [
        ("[4]", "[0,12]"),
        ("[4]", "[16,0]"),
        ("[4]", "[4,20]"),
        ("[-4]", "[0,16]"),
        ("[9223372036854775807,4]", "[0,16]"),
        ("[18446744073709551615,18446744073709551615]", "[0,16]"),
    ] {
        refused(&one(shape, offsets), 16);
    }
    refused(&one("[4]", "[0,16]"), 15);
    refused(&"[".repeat(1 << 20), 0);
    refused(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1);
    assert!(bounded("x.safetensors", [&[0xff; 8][..], b"{}"].concat()).is_err());
}

#[test]
fn a_damaged_checkpoint_of_a_family_is_an_error_or_a_package() {
    let mut random = Random(8);
    let parts = members(&fixture("dalle.pt"));
    let pickle = parts.iter().position(|m| m.name.ends_with("/data.pkl")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("dalle.pt"), dir.path().join("package"));
    let words = serde_json::json!({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}});
    fs::write(dir.path().join("tokenizer.json"), words.to_string()).unwrap();
    let import = |parts: &[Member]| {
        fs::write(&path, archive(parts)).unwrap();
        let options = crate::ImportOptions { overwrite: true, ..crate::ImportOptions::default() };
        let (result, peak) = memory::peak(|| crate::import(&path, &out, &options, &mut |_| ()));
        assert!(peak < MEMORY, "{peak} bytes were taken at once");
        result.map(drop)
    };
    import(&parts).unwrap();
    for round in 0..FAMILY_ROUNDS {
        let mut parts = parts.clone();
        random.damage(&mut parts[pickle].bytes, round % 6);
        let _ = import(&parts);
    }
    // Numbers of the configuration, each in turn, as large as they can be written.
    let whole = parts[pickle].bytes.clone();
    let numbers = (0..whole.len() - 1).filter(|at| whole[*at] == b'K').take(FAMILY_ROUNDS);
    for at in numbers {
        for large in [
            &b"J\xff\xff\xff\x7f"[..],
            b"J\xff\xff\xff\xff",
            b"K\x00",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"N",
        ] {
            let mut parts = parts.clone();
            parts[pickle].bytes.splice(at..at + 2, large.iter().copied());
            let _ = import(&parts);
        }
    }
}
