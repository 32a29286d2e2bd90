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

/// Stands for a quotation mark at the start of a caption whose fellow is at the end: a code point of nobody's.
const QUOTED: &str = "\u{e000}";
const DOMAINS: &str = "com|co|ru|net|org|edu|gov|it";
/// What Python's expressions take for a part of a word, and its bounds; the library's own count marks in, and numbers such as ² out.
const WORD: &str = r"[\p{L}\p{N}_]";
const BOUND: &str = r"(?:(?<![\p{L}\p{N}_])(?=[\p{L}\p{N}_])|(?<=[\p{L}\p{N}_])(?![\p{L}\p{N}_]))";
/// What DeepFloyd's cleaning does before ftfy's.
const BEFORE_FTFY: [(&str, &str); 18] = [
    (r"@\w+\b", ""),
    ("[\u{31c0}-\u{31ff}\u{3200}-\u{9fff}]+", ""),
    (
        "[\\-\u{58a}\u{5be}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2e17}\u{2e1a}\u{2e3a}\u{2e3b}\u{2e40}\u{301c}\u{3030}\u{30a0}\u{fe31}\u{fe32}\u{fe58}\u{fe63}\u{ff0d}]+",
        "-",
    ),
    ("[`´«»“”¨]", "\""),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
    (r"\d:\d\d\s+\z", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (r"\S+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
    ("[\"']{2,}", "\""),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
    (r"\s+\.\s+", " "),
];
/// What it does behind ftfy's.
const BEHIND_FTFY: [(&str, &str); 19] = [
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
    (r"\b\s+:\s+", ": "),
    // Between a comma, full stop or slash and a word, unless a digit is before it.
    (r"(?<=\D[,./])\b", " "),
    (r"\s+", " "),
    (r#"\A["'](?=[\s\S]+["']\z)"#, QUOTED),
    ("\\A\u{e000}[\\s\\S]+\\K[\"']\\z", ""),
    ("\\A\u{e000}", ""),
    (r"\A['_,\-:;]", ""),
    (r"['_,\-:+]\z", ""),
    (r"\A\.\S+\z", ""),
];

/// Replaces what a regular expression matches.
pub(super) fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content})
}

/// As [`replace`], with words as Python knows them.
fn python(pattern: &str, content: &str) -> Value {
    replace(&pattern.replace(r"\b", BOUND).replace(r"\w", WORD), content)
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

/// What DeepFloyd's IF, PixArt and LlamaGen do to a caption, twice: addresses, tags, codes and punctuation go, dashes and quotes become plain ones.
pub(super) fn caption() -> Vec<Value> {
    (0..2).flat_map(|_| caption_once()).collect()
}

fn caption_once() -> Vec<Value> {
    let mut steps = vec![exactly("+", " "), exactly("%20", " "), strip()];
    steps.extend(lower());
    steps.push(exactly("<person>", "person"));
    for scheme in ["https?:(?:/{1,3}|[a-zA-Z0-9%])", "www:(?:/{1,3}|[a-zA-Z0-9%])"] {
        steps.push(python(&format!(r"\b(?:{scheme}|[a-zA-Z0-9.\-]+[.](?:{DOMAINS})[\w/\-]*\b/?(?!@))"), ""));
    }
    steps.push(python("<[a-zA-Z/!?][^>]*>", ""));
    steps.extend(ENTITIES.map(|(pattern, content)| python(pattern, content)));
    steps.extend(BEFORE_FTFY.map(|(pattern, content)| python(pattern, content)));
    // More than three hyphens and underscores join words.
    steps.push(python(r"(?:\A(?=(?:[^_\-]*[_\-]){4})|\G(?!\A))[^_\-]*\K[_\-]", " "));
    steps.extend(ftfy());
    steps.push(strip());
    steps.extend(BEHIND_FTFY.map(|(pattern, content)| python(pattern, content)));
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
