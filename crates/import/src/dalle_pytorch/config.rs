//! What a checkpoint's `hparams` say, with dalle-pytorch's own defaults, and what its tensors say where they know better.

use std::{fmt::Display, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, Mask,
    checkpoint::{self, Tensors},
};

/// From this version on, `conv_like` sees the square that ends at the position; before, the one around it.
const CORNER_SINCE: Version = [1, 5, 0];
/// Of the sampling of image tokens: the share of the logits that are left out.
const FILTER_THRESHOLD: f64 = 0.5;

/// Of the package that wrote the file. Files say theirs since 1.1.6.
type Version = [u32; 3];

#[derive(Debug, Deserialize)]
struct Hparams {
    dim: usize,
    depth: usize,
    #[serde(default = "eight")]
    heads: usize,
    #[serde(default = "sixty_four")]
    dim_head: usize,
    #[serde(default = "ten_thousand")]
    num_text_tokens: usize,
    #[serde(default = "two_hundred_fifty_six")]
    text_seq_len: usize,
    #[serde(default)]
    reversible: bool,
    #[serde(default)]
    attn_types: Option<Types>,
    #[serde(default)]
    stable: bool,
    #[serde(default)]
    sandwich_norm: bool,
    /// Training has always noted it, as soon as there was such a thing.
    #[serde(default)]
    shift_tokens: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Types {
    One(String),
    Several(Vec<String>),
}

fn eight() -> usize {
    8
}

fn sixty_four() -> usize {
    64
}

fn ten_thousand() -> usize {
    10_000
}

fn two_hundred_fifty_six() -> usize {
    256
}

/// What there is to import.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) width: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) head_width: usize,
    /// Ids of captions, pads not counted.
    pub(super) words: usize,
    /// Ids of a caption.
    pub(super) caption: usize,
    pub(super) side: usize,
    pub(super) codebook: usize,
    /// Of each layer.
    pub(super) masks: Vec<Mask>,
    pub(super) reversible: bool,
    pub(super) stable: bool,
    pub(super) sandwich: bool,
    pub(super) shift: bool,
    /// The head's rows are the embeddings too.
    pub(super) shared: bool,
    /// Shape of the angles of rotary positions; none: positions are added.
    pub(super) angles: Option<Vec<usize>>,
}

impl Config {
    /// `beside` is what the file holds beside its tensors; a `version` that it does not have may be in `config`.
    pub(super) fn of(path: &Path, [beside, config]: [&Value; 2], tensors: &Tensors<'_>) -> Result<Self, Error> {
        let check = Check { path };
        let version = [beside, config].into_iter().find_map(|says| says["version"].as_str()).map(version);
        let h: Hparams = checkpoint::parse(path, "hparams", &beside["hparams"])?;
        for (field, found, most) in [
            ("hparams.dim", h.dim, 16384),
            ("hparams.depth", h.depth, 1024),
            ("hparams.heads", h.heads, 1024),
            ("hparams.dim_head", h.dim_head, 1024),
            ("hparams.num_text_tokens", h.num_text_tokens, 1 << 23),
            ("hparams.text_seq_len", h.text_seq_len, 4095),
        ] {
            check.within(field, found, most)?;
        }
        let shift = h.shift_tokens.unwrap_or(version.is_some());
        if shift && !h.dim.is_multiple_of(4) {
            return check.fail("hparams.dim (with shift_tokens)", "a multiple of 4", h.dim);
        }
        let angles = tensors.dimensions("transformer.pos_emb");
        let cells = match &angles {
            Some(shape) => shape.iter().rev().nth(1).copied().unwrap_or(0).saturating_sub(h.text_seq_len),
            None => Self::cells_of_table(tensors)?,
        };
        let side = Self::side(cells).ok_or_else(|| {
            let found = format!("{cells} positions behind those of the text");
            tensors.wrong("transformer.pos_emb", "a square of image positions".into(), found)
        })?;
        let [logits, _] = tensors.shape("to_logits.1.weight")?;
        let codebook = logits.saturating_sub(h.num_text_tokens + h.text_seq_len);
        check.within("to_logits.1.weight (image tokens)", codebook, 1 << 20)?;
        Ok(Self {
            width: h.dim,
            layers: h.depth,
            heads: h.heads,
            head_width: h.dim_head,
            words: h.num_text_tokens,
            caption: h.text_seq_len,
            side,
            codebook,
            masks: masks(&check, &h, version)?,
            reversible: h.reversible,
            stable: h.stable,
            sandwich: h.sandwich_norm,
            shift,
            shared: !tensors.contains("text_emb.weight"),
            angles,
        })
    }

    /// Image positions of the table of rows; older versions name it with an underscore.
    fn cells_of_table(tensors: &Tensors<'_>) -> Result<usize, Error> {
        let name = if tensors.contains(&table(0, '.')) { table(0, '.') } else { table(0, '_') };
        let [_, rows, _, _] = tensors.shape(&name)?;
        Ok(rows.saturating_mul(rows))
    }

    /// The side of the grid; the table of angles may have one position more than the image, for the token that begins the text.
    fn side(cells: usize) -> Option<usize> {
        let root = |cells: usize| Some(cells.isqrt()).filter(|root| root * root == cells && (1..=1024).contains(root));
        root(cells.checked_sub(1)?).or_else(|| root(cells))
    }

    /// Text ids, pads included.
    pub(super) fn text_ids(&self) -> usize {
        self.words + self.caption
    }

    /// Text positions: a token that begins the text, then the caption.
    pub(super) fn text_length(&self) -> usize {
        1 + self.caption
    }

    /// What the package's own sampling keeps by default; 0: all. The share is of text and image tokens together.
    pub(super) fn top_k(&self) -> u32 {
        let k = ((1.0 - FILTER_THRESHOLD) * (self.text_ids() + self.codebook) as f64) as usize;
        if k >= self.codebook { 0 } else { k.max(1) as u32 }
    }
}

/// The key of the table of rows (0) or of columns (1).
pub(super) fn table(axis: usize, separator: char) -> String {
    format!("image_pos_emb.weights{separator}{axis}")
}

fn version(text: &str) -> Version {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

fn masks(check: &Check<'_>, h: &Hparams, version: Option<Version>) -> Result<Vec<Mask>, Error> {
    let types = match &h.attn_types {
        None => vec!["full".to_owned()],
        Some(Types::One(name)) => vec![name.clone()],
        Some(Types::Several(names)) => names.clone(),
    };
    let conv = if version.is_some_and(|version| version >= CORNER_SINCE) { Mask::Corner } else { Mask::Conv };
    let mask = |name: &String| match name.as_str() {
        "full" => Ok(Mask::Full),
        "axial_row" => Ok(Mask::AxialRow),
        "axial_col" => Ok(Mask::Column),
        "conv_like" => Ok(conv),
        other => check.fail("hparams.attn_types", "full, axial_row, axial_col or conv_like", format_args!("{other:?}")),
    };
    let types: Vec<Mask> = types.iter().map(mask).collect::<Result<_, _>>()?;
    check.within("hparams.attn_types (how many)", types.len(), 1024)?;
    Ok(types.into_iter().cycle().take(h.depth).collect())
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn fail<T>(&self, field: &str, expected: impl Display, found: impl Display) -> Result<T, Error> {
        let (expected, found) = (expected.to_string(), found.to_string());
        Err(Error::Field { path: self.path.into(), field: field.into(), expected, found })
    }

    fn within(&self, field: &str, found: usize, most: usize) -> Result<(), Error> {
        if (1..=most).contains(&found) { Ok(()) } else { self.fail(field, format_args!("1 … {most}"), found) }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_side_of_the_grid_is_told_by_the_positions() {
        assert_eq!([37, 36, 35, 0, 1].map(Config::side), [Some(6), Some(6), None, None, Some(1)]);
    }
}
