//! The transformer: a Llama whose positions are turned in two dimensions.

use std::path::Path;

use serde_json::Value;

use crate::{
    Error, Mask,
    checkpoint::{Checkpoint, Part, Tensors},
    graph::Graph,
    layers::{Activation, Normalization},
    llama,
    tensor::Tensor,
    transformer::{
        Attention, Count, Embedding, Geometry, Head, ImageEmbedding, Layer, Mlp, Pairs, Rotary, Streams, Transformer,
    },
};

/// Of the published models; the weights do not tell.
const HEAD_WIDTH: usize = 64;
/// The two widths of the published models that have as many heads instead.
const WIDE: ([usize; 2], usize) = ([3200, 4096], 32);
/// Sides of the published models' pictures, which their files' names tell.
const PICTURES: [u64; 3] = [256, 384, 512];
const LEVEL: &str = "decoder.conv_blocks";

/// Sizes that the tensors, the configuration and the file's name tell.
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) key_heads: usize,
    hidden: usize,
    pub(super) layers: usize,
    pub(super) codebook: usize,
    pub(super) side: usize,
    rope_base: f64,
    epsilon: f32,
    pub(super) condition: Condition,
}

/// What comes before the picture.
pub(super) enum Condition {
    /// A class: the rows of its table, the last of which is none.
    Classes(usize),
    /// A text encoder's features: positions, and numbers of one.
    Captions { length: usize, width: usize },
}

impl Sizes {
    pub(super) fn of(checkpoint: &Checkpoint, part: &Part) -> Result<Self, Error> {
        let mut unread = |_| ();
        let tensors = &part.tensors("", &mut unread);
        let [codebook, width] = tensors.shape("tok_embeddings.weight")?;
        let [rows, _] = tensors.shape("layers.0.attention.wqkv.weight")?;
        let [hidden, _] = tensors.shape("layers.0.feed_forward.w1.weight")?;
        let layers = (0..1024).take_while(|i| tensors.contains(&format!("layers.{i}.attention.wqkv.weight"))).count();
        let path = checkpoint.path().join("config.json");
        let fail = |field: &str, expected: String, found: String| {
            Err(Error::Field { path: path.clone(), field: field.into(), expected, found })
        };
        let config = checkpoint.config();
        let usual = if WIDE.0.contains(&width) { WIDE.1 } else { width / HEAD_WIDTH };
        let heads = match &config["n_head"] {
            Value::Null => usual,
            heads => heads.as_u64().unwrap_or(0) as usize,
        };
        if !(1..=1024).contains(&heads) || !width.is_multiple_of(4 * heads) {
            let expected = format!("at most 1024 heads, of a multiple of 4, in a width of {width}");
            return fail("n_head", expected, config["n_head"].to_string());
        }
        let shared = rows.saturating_sub(width) / (2 * (width / heads));
        if shared == 0 || !heads.is_multiple_of(shared) {
            let (expected, found) =
                (format!("{width} queries, and as many or fewer keys and values"), rows.to_string());
            return Err(tensors.wrong("layers.0.attention.wqkv.weight", expected, found));
        }
        let condition = condition(tensors)?;
        let factor = factor(checkpoint)?;
        let side = match (config["block_size"].as_u64(), picture(config, part.path())) {
            (Some(cells), _) => (cells as usize).isqrt(),
            (None, Some(pixels)) => pixels as usize / factor,
            (None, None) => 0,
        };
        if !(1..=1024).contains(&side) {
            let expected = "the side of a picture in pixels, where the file's name has no 256, 384 or 512".into();
            return fail("image_size", expected, config["image_size"].to_string());
        }
        let rope_base = config["rope_base"].as_f64().unwrap_or(10_000.0);
        let epsilon = config["norm_eps"].as_f64().unwrap_or(1e-5) as f32;
        Ok(Self { width, heads, key_heads: shared, hidden, layers, codebook, side, rope_base, epsilon, condition })
    }

    pub(super) fn head_width(&self) -> usize {
        self.width / self.heads
    }

    pub(super) fn text_length(&self) -> usize {
        match self.condition {
            Condition::Classes(_) => 1,
            Condition::Captions { length, .. } => length,
        }
    }

    pub(super) fn contract(&self) -> &'static str {
        match self.condition {
            Condition::Classes(_) => "easel.sampler/1",
            Condition::Captions { .. } => "easel.sampler/2",
        }
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            width: self.width,
            heads: self.key_heads,
            query_heads: self.heads,
            head_width: self.head_width(),
            layers: self.layers,
            text_length: self.text_length(),
            mask_text_length: self.text_length(),
            rows: self.side,
            columns: self.side,
            codebook: self.codebook,
            kernel: 0,
            attention_scale: (self.head_width() as f32).powf(-0.5),
            streams: Streams::One,
            count: Count::Positions,
        }
    }

    /// Half of a head is turned by the row, half by the column. The original's tables are 0 at text positions, both of them, so that queries and keys
    /// vanish there: what is before a picture is read in equal shares.
    fn rotary(&self) -> Rotary {
        let (width, text, side) = (self.head_width(), self.text_length(), self.side);
        let frequency = |i: usize| 1.0 / (self.rope_base.powf(2.0 * i as f64 / (width / 2) as f64)) as f32;
        let frequencies: Vec<f32> = (0..width / 4).map(frequency).collect();
        let angles = |place: usize| {
            let turned = |t: usize| frequencies.iter().map(move |f| f64::from(t as f32 * f));
            turned(place / side).chain(turned(place % side))
        };
        let table = |name: &str, of: fn(f64) -> f64| {
            let image = (0..side * side).flat_map(angles).flat_map(|angle| [of(angle) as f32; 2]);
            let values = std::iter::repeat_n(0.0, text * width).chain(image).collect();
            Tensor::new(name, &[text + side * side, width], values)
        };
        let (cosines, sines) = (table("cosines", f64::cos), table("sines", f64::sin));
        Rotary { cosines, sines, pairs: Pairs::Neighbours, values: false }
    }

    fn norm(&self, tensors: &mut Tensors<'_>, key: &str) -> Result<Normalization, Error> {
        let weight = tensors.take(&format!("{key}.weight"), &[self.width])?;
        Ok(Normalization::RootMeanSquare { weight, epsilon: self.epsilon })
    }

    fn layer(&self, tensors: &mut Tensors<'_>, i: usize) -> Result<Layer, Error> {
        let key = |name: &str| format!("layers.{i}.{name}");
        let (width, hidden) = (self.width, self.hidden);
        let rows = (self.heads + 2 * self.key_heads) * self.head_width();
        let mut linear = |name: &str, shape: [usize; 2]| llama::linear(tensors, &key(name), shape, false);
        let (qkv, out) = (linear("attention.wqkv", [rows, width])?, linear("attention.wo", [width, width])?);
        let (gate, up) = (linear("feed_forward.w1", [hidden, width])?, linear("feed_forward.w3", [hidden, width])?);
        let down = linear("feed_forward.w2", [width, hidden])?;
        let mut norm = |name: &str| self.norm(tensors, &key(name)).map(Some);
        let attention = Attention {
            norm: norm("attention_norm")?,
            shift: false,
            qkv,
            head_norm: None,
            mask: Mask::Full,
            out,
            post_norm: None,
        };
        let mlp = Mlp {
            norm: norm("ffn_norm")?,
            shift: false,
            up,
            gate: Some(gate),
            activation: Activation::Silu,
            mid_norm: None,
            down,
            post_norm: None,
        };
        Ok(Layer { attention, cross: None, mlp })
    }
}

fn condition(tensors: &Tensors<'_>) -> Result<Condition, Error> {
    const TABLE: &str = "cls_embedding.embedding_table.weight";
    if tensors.contains(TABLE) {
        let [rows, _] = tensors.shape(TABLE)?;
        if (2..=1 << 20).contains(&rows) {
            return Ok(Condition::Classes(rows));
        }
        return Err(tensors.wrong(TABLE, "2 … 2^20 rows, the last of no class".into(), rows.to_string()));
    }
    let key = "cls_embedding.uncond_embedding";
    let [length, width] = tensors.shape(key)?;
    if (2..=4096).contains(&length) && width <= 1 << 16 {
        return Ok(Condition::Captions { length, width });
    }
    Err(tensors.wrong(key, "2 … 4096 positions, at most 65536 wide".into(), format!("{length}, {width} wide")))
}

/// How much smaller than the picture the grid is.
fn factor(checkpoint: &Checkpoint) -> Result<usize, Error> {
    let part = checkpoint.part_with(&["decoder.conv_in.weight", &format!("{LEVEL}.0.res.0.conv1.weight")])?;
    let level = |i: &usize| part.entries().contains_key(&format!("{LEVEL}.{i}.res.0.conv1.weight"));
    Ok(1 << (0..16).take_while(level).count().saturating_sub(1))
}

/// The side of a picture in pixels: what the configuration says, or else the file's name.
fn picture(config: &Value, path: &Path) -> Option<u64> {
    if !config["image_size"].is_null() {
        return config["image_size"].as_u64();
    }
    let name = path.file_stem()?.to_str()?;
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    numbers.find(|number| PICTURES.contains(number))
}

/// Takes all but what makes embeddings of a text encoder's features.
pub(super) fn build(graph: Graph, tensors: &mut Tensors<'_>, s: &Sizes) -> Result<Graph, Error> {
    let image = tensors.take("tok_embeddings.weight", &[s.codebook, s.width])?;
    let (text, image) = match s.condition {
        Condition::Classes(rows) => {
            let table = tensors.take("cls_embedding.embedding_table.weight", &[rows, s.width])?;
            (table, ImageEmbedding::Table(image))
        }
        Condition::Captions { .. } => (Tensor::new("text", &[0, s.width], vec![]), ImageEmbedding::Alone(image)),
    };
    let embedding = Embedding { text, image, position: None, norm: None, rotary: Some(s.rotary()) };
    let mut transformer = Transformer::start(graph, s.geometry(), embedding)?;
    for i in 0..s.layers {
        transformer.layer(&s.layer(tensors, i)?)?;
    }
    let norms = vec![s.norm(tensors, "norm")?];
    let linear = llama::linear(tensors, "output", [s.codebook, s.width], false)?;
    transformer.finish(&Head { norms, inner: None, linear })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::picture;

    #[test]
    fn the_size_of_pictures_is_in_the_configuration_or_the_name() {
        let named = |name| picture(&Value::Null, Path::new(name));
        assert_eq!(named("models/t2i_XL_stage2_512.pt"), Some(512));
        assert_eq!(named("c2i_3B_384.pt"), Some(384));
        assert_eq!(named("256/consolidated.pth"), None);
        assert_eq!(picture(&json!({"image_size": 128}), Path::new("c2i_L_256.pt")), Some(128));
        assert_eq!(picture(&json!({"image_size": "large"}), Path::new("c2i_L_256.pt")), None);
    }
}
