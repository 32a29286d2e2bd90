//! What is done to captions before a vocabulary sees them, as normalizers of a `tokenizer.json`.

use serde_json::{Value, json};

/// Named entities of HTML that people type, and what they stand for. The ampersand comes last: what it makes is not read again.
const ENTITIES: [(&str, &str); 12] = [
    ("&(?:lt|LT|#60|#[xX]3[cC]);?", "<"),
    ("&(?:gt|GT|#62|#[xX]3[eE]);?", ">"),
    ("&(?:quot|QUOT|#34|#[xX]22);?", "\""),
    ("&(?:apos;|#39;?|#[xX]27;?)", "'"),
    ("&(?:nbsp|#160|#[xX][aA]0);?", "\u{a0}"),
    ("&(?:[lr]squo;|#821[67];?|#[xX]201[89];?)", "'"),
    ("&(?:[lr]dquo;|#822[01];?|#[xX]201[cCdD];?)", "\""),
    ("&(?:ndash;|#8211;?|#[xX]2013;?)", "–"),
    ("&(?:mdash;|#8212;?|#[xX]2014;?)", "—"),
    ("&(?:hellip;|#8230;?|#[xX]2026;?)", "…"),
    ("&(?:copy|COPY|#169|#[xX][aA]9);?", "©"),
    ("&(?:amp|AMP|#38|#[xX]26);?", "&"),
];
/// Entities may be written with entities: ftfy reads them once, CLIP's own cleaning twice more.
const PASSES: usize = 3;
/// ftfy's table of ligatures.
const LIGATURES: [(&str, &str); 22] = [
    ("Ĳ", "IJ"),
    ("ĳ", "ij"),
    ("ŉ", "ʼn"),
    ("Ǳ", "DZ"),
    ("ǲ", "Dz"),
    ("ǳ", "dz"),
    ("Ǆ", "DŽ"),
    ("ǅ", "Dž"),
    ("ǆ", "dž"),
    ("Ǉ", "LJ"),
    ("ǈ", "Lj"),
    ("ǉ", "lj"),
    ("Ǌ", "NJ"),
    ("ǋ", "Nj"),
    ("ǌ", "nj"),
    ("ﬀ", "ff"),
    ("ﬁ", "fi"),
    ("ﬂ", "fl"),
    ("ﬃ", "ffi"),
    ("ﬄ", "ffl"),
    ("ﬅ", "ſt"),
    ("ﬆ", "st"),
];
/// The full-width forms of ASCII, and how far they lie behind it.
const WIDE: std::ops::RangeInclusive<u32> = 0xff01..=0xff5e;
const WIDE_OFFSET: u32 = 0xfee0;

/// Replaces what a regular expression matches.
pub(super) fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

fn exactly(text: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": text}, "content": content})
}

/// Several normalizers, one after another.
pub(super) fn all(normalizers: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": normalizers})
}

/// Python's `str.lower`: as the library's own but for a sigma that ends a word.
pub(super) fn lower() -> [Value; 2] {
    [replace(r"(?<=\p{L})Σ(?!\p{L})", "ς"), json!({"type": "Lowercase"})]
}

pub(super) fn strip() -> Value {
    json!({"type": "Strip", "strip_left": true, "strip_right": true})
}

/// What ftfy and CLIP's own cleaning do to text that was not garbled: entities, terminal escapes, ligatures, widths, quotes, control characters, composition.
pub(super) fn ftfy() -> Vec<Value> {
    let mut steps: Vec<Value> =
        (0..PASSES).flat_map(|_| ENTITIES.map(|(pattern, content)| replace(pattern, content))).collect();
    steps.push(replace("\u{1b}\\[[0-9;]*[a-zA-Z]", ""));
    steps.extend(LIGATURES.map(|(from, to)| exactly(from, to)));
    steps.push(exactly("\u{3000}", " "));
    let wide = WIDE.filter_map(|wide| Some((char::from_u32(wide)?, char::from_u32(wide - WIDE_OFFSET)?)));
    steps.extend(wide.map(|(wide, ascii)| exactly(&wide.to_string(), &ascii.to_string())));
    steps.push(replace("[\u{2bc}\u{2018}-\u{201b}]", "'"));
    steps.push(replace("[\u{201c}-\u{201f}]", "\""));
    steps.push(replace("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\u{206a}-\u{206f}\u{feff}\u{fff9}-\u{fffc}]", ""));
    steps.push(json!({"type": "NFC"}));
    steps
}
