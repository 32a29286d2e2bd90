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
/// The full-width and half-width forms, from a code point on, and what they are in the usual width (NFKC).
const WIDTHS: [(u32, &str); 10] = [
    (0xff01, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"),
    (
        0xff5f,
        "⦅⦆。「」、・ヲァィゥェォャュョッーアイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン",
    ),
    (
        0xff9e,
        "\u{3099}\u{309a}\u{1160}\u{1100}\u{1101}\u{11aa}\u{1102}\u{11ac}\u{11ad}\u{1103}\u{1104}\u{1105}\u{11b0}\u{11b1}\u{11b2}\u{11b3}\u{11b4}\u{11b5}\u{111a}\u{1106}\u{1107}\u{1108}\u{1121}\u{1109}\u{110a}\u{110b}\u{110c}\u{110d}\u{110e}\u{110f}\u{1110}\u{1111}\u{1112}",
    ),
    (0xffc2, "\u{1161}\u{1162}\u{1163}\u{1164}\u{1165}\u{1166}"),
    (0xffca, "\u{1167}\u{1168}\u{1169}\u{116a}\u{116b}\u{116c}"),
    (0xffd2, "\u{116d}\u{116e}\u{116f}\u{1170}\u{1171}\u{1172}"),
    (0xffda, "\u{1173}\u{1174}\u{1175}"),
    (0xffe0, "¢£¬"),
    (0xffe4, "¦¥₩"),
    (0xffe8, "│←↑→↓■○"),
];

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
    [replace(r"(?<=[\p{Lu}\p{Ll}\p{Lt}])Σ(?![\p{Lu}\p{Ll}\p{Lt}])", "ς"), json!({"type": "Lowercase"})]
}

pub(super) fn strip() -> Value {
    json!({"type": "Strip", "strip_left": true, "strip_right": true})
}

/// Placeholder.
pub(super) fn caption() -> Vec<Value> {
    let mut steps = lower().to_vec();
    steps.push(strip());
    steps
}

/// What ftfy and CLIP's own cleaning do to text that was not garbled: entities, terminal escapes, ligatures, widths, quotes, control characters, composition.
pub(super) fn ftfy() -> Vec<Value> {
    let mut steps: Vec<Value> =
        (0..PASSES).flat_map(|_| ENTITIES.map(|(pattern, content)| replace(pattern, content))).collect();
    steps.push(replace("\u{1b}\\[[0-9;]*[a-zA-Z]", ""));
    steps.extend(LIGATURES.map(|(from, to)| exactly(from, to)));
    steps.push(exactly("\u{3000}", " "));
    steps.push(exactly("￣", " \u{304}"));
    for (first, usual) in WIDTHS {
        let forms = (first..).filter_map(char::from_u32).zip(usual.chars());
        steps.extend(forms.map(|(form, usual)| exactly(&form.to_string(), &usual.to_string())));
    }
    steps.push(replace("[\u{2bc}\u{2018}-\u{201b}]", "'"));
    steps.push(replace("[\u{201c}-\u{201f}]", "\""));
    steps.push(replace("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\u{206a}-\u{206f}\u{feff}\u{fff9}-\u{fffc}]", ""));
    steps.push(json!({"type": "NFC"}));
    steps
}
