//! T5's encoder (version 1.1, Flan), in Hugging Face's layout: what reads captions for models of other projects.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{
    Error, Mask,
    checkpoint::{Checkpoint, Part, Tensors},
    graph::Graph,
    layers::{Activation, Normalization},
    llama,
    tensor::Tensor,
    tokenizer,
    transformer::{Attention, Encoder, Mlp, Projection},
    vocabulary,
};

const TOKENIZER: &str = "tokenizer.json";
const END: &str = "</s>";
const NORM: &str = "encoder.final_layer_norm.weight";
const BIASES: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
/// Where the table of tokens is: files hold it under one of these keys, or the same under several.
const TOKENS: [&str; 2] = ["shared.weight", "encoder.embed_tokens.weight"];

/// T5's files, looked at but not read.
pub(crate) struct Source {
    folder: Checkpoint,
    part: Part,
    sizes: Sizes,
}

/// Sizes that the tensors and the configuration tell.
struct Sizes {
    text_ids: usize,
    width: usize,
    heads: usize,
    /// Of queries, of keys and of values.
    attention: usize,
    hidden: usize,
    layers: usize,
    /// Kinds of distances between query and key, and the distance from which on they are alike.
    buckets: usize,
    farthest: usize,
    epsilon: f32,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let folder = Checkpoint::open(path)?;
        let part = folder.part_with(&[NORM, BIASES])?;
        let sizes = sizes(&folder, &part.tensors("", &mut |_| ()))?;
        Ok(Self { folder, part, sizes })
    }

    /// Ids that the encoder has embeddings of.
    pub(crate) fn text_ids(&self) -> usize {
        self.sizes.text_ids
    }

    /// Numbers of a feature.
    pub(crate) fn width(&self) -> usize {
        self.sizes.width
    }

    /// Bytes of the tensors that are read.
    pub(crate) fn bytes(&self) -> u64 {
        let read = |key: &str| key.starts_with("encoder.") || key == TOKENS[0];
        self.part.entries().iter().filter(|(key, _)| read(key)).map(|(_, entry)| entry.bytes()).sum()
    }

    /// As [`Part::digest`].
    pub(crate) fn digest(&self, tick: &mut dyn FnMut()) -> Result<String, Error> {
        self.part.digest(tick)
    }

    /// The graph of the encoder and of what makes embeddings of its features.
    pub(crate) fn graph(
        &self,
        graph: Graph,
        projection: &Projection,
        read: &mut dyn FnMut(u64),
    ) -> Result<Graph, Error> {
        let (s, mut tensors) = (&self.sizes, self.part.tensors("", read));
        let text_length = projection.blank.shape[0];
        let key = if tensors.contains(TOKENS[0]) { TOKENS[0] } else { TOKENS[1] };
        tensors.ignore(|other| other != key && !other.starts_with("encoder.block.") && other != NORM);
        let tokens = tensors.take(key, &[s.text_ids, s.width])?;
        let table = tensors.take(BIASES, &[s.buckets, s.heads])?;
        let mut encoder = Encoder::start_relative(graph, [&tokens, &s.biases(&table, text_length)], text_length)?;
        for i in 0..s.layers {
            let (attention, mlp) = s.layer(&mut tensors, i)?;
            encoder.layer(&attention, &mlp, 1.0)?;
        }
        let norm = s.norm(&mut tensors, NORM)?;
        tensors.finish(None)?;
        encoder.embed(&norm, s.text_ids, projection)
    }

    /// The vocabulary, without the token that it puts behind a text, and that token's id.
    pub(crate) fn vocabulary(&self) -> Result<(Value, u32), Error> {
        let path = self.folder.file(&[TOKENIZER]).ok_or_else(|| Error::File {
            path: self.folder.path().into(),
            expected: format!("{TOKENIZER} beside the weights"),
            found: "none".into(),
        })?;
        let mut json = tokenizer::tokenizer_json(&path)?;
        json["post_processor"] = Value::Null;
        vocabulary::sampler_json(&path, &json, self.sizes.text_ids)?;
        let end = end(&json).ok_or_else(|| Error::File {
            path,
            expected: format!("the token {END}"),
            found: "none".into(),
        })?;
        Ok((json, end))
    }
}

/// The id of the token that ends a text.
fn end(json: &Value) -> Option<u32> {
    let mut added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.find(|token| token["content"] == END).and_then(|token| token["id"].as_u64());
    let pieces = json["model"]["vocab"].as_array();
    let piece = || Some(pieces?.iter().position(|piece| piece[0] == END)? as u64);
    u32::try_from(added.or_else(piece)?).ok()
}

fn sizes(folder: &Checkpoint, tensors: &Tensors<'_>) -> Result<Sizes, Error> {
    let block = |name: &str| format!("encoder.block.0.layer.{name}.weight");
    let key = if tensors.contains(TOKENS[0]) { TOKENS[0] } else { TOKENS[1] };
    let [text_ids, width] = tensors.shape(key)?;
    let [buckets, heads] = tensors.shape(BIASES)?;
    let [attention, _] = tensors.shape(&block("0.SelfAttention.q"))?;
    let [hidden, _] = tensors.shape(&block("1.DenseReluDense.wi_0"))?;
    let layer = |i: usize| format!("encoder.block.{i}.layer.0.SelfAttention.q.weight");
    let layers = (0..1024).take_while(|i| tensors.contains(&layer(*i))).count();
    let config = folder.config();
    let field = |field: &str, expected: &str| {
        let (path, found) = (config_path(folder), config[field].to_string());
        Err(Error::Field { path, field: field.into(), expected: expected.into(), found })
    };
    if !matches!(config["feed_forward_proj"].as_str(), None | Some("gated-gelu")) {
        return field("feed_forward_proj", "gated-gelu");
    }
    let farthest = match &config["relative_attention_max_distance"] {
        Value::Null => 128,
        distance => distance.as_u64().unwrap_or(0) as usize,
    };
    // Half of the kinds are of keys behind the query, half of those of single distances.
    if !(4..=1 << 16).contains(&buckets) || !(buckets / 4 + 1..=1 << 20).contains(&farthest) {
        return field("relative_attention_max_distance", "more than a quarter of relative_attention_num_buckets");
    }
    if !(1..=1024).contains(&heads) || !attention.is_multiple_of(heads) || text_ids > 1 << 20 {
        let found = format!("{heads} of {attention}, {text_ids} ids");
        return Err(tensors.wrong(BIASES, "at most 1024 heads, all of one width, and 2^20 ids".into(), found));
    }
    let epsilon = config["layer_norm_epsilon"].as_f64().unwrap_or(1e-6) as f32;
    Ok(Sizes { text_ids, width, heads, attention, hidden, layers, buckets, farthest, epsilon })
}

fn config_path(folder: &Checkpoint) -> PathBuf {
    folder.path().join("config.json")
}

impl Sizes {
    /// What is added to scores, \[2 · text length − 1, heads\], from the key that is farthest before its query on.
    fn biases(&self, table: &Tensor, text_length: usize) -> Tensor {
        let last = text_length as i64 - 1;
        let rows = (-last..=last).map(|distance| self.bucket(distance));
        let values = rows.flat_map(|row| table.values[row * self.heads..(row + 1) * self.heads].to_vec()).collect();
        Tensor::new("relative_attention_bias", &[2 * text_length - 1, self.heads], values)
    }

    /// The kind of a distance: small ones each have their own, larger ones share one with their like, as logarithms go.
    fn bucket(&self, distance: i64) -> usize {
        let half = self.buckets / 2;
        let (single, far) = (half / 2, distance.unsigned_abs() as usize);
        let behind = if distance > 0 { half } else { 0 };
        if far < single {
            return behind + far;
        }
        // In 32 bits, as the original computes it.
        let share = (far as f32 / single as f32).ln() / (self.farthest as f64 / single as f64).ln() as f32;
        behind + (single + (share * (half - single) as f32) as usize).min(half - 1)
    }

    fn layer(&self, tensors: &mut Tensors<'_>, i: usize) -> Result<(Attention, Mlp), Error> {
        let key = |name: &str| format!("encoder.block.{i}.layer.{name}");
        let mut linear = |name: &str, shape: [usize; 2]| llama::linear(tensors, &key(name), shape, false);
        let [q, k, v] = ["q", "k", "v"].map(|map| {
            let (name, shape) = (format!("0.SelfAttention.{map}"), [self.attention, self.width]);
            linear(&name, shape)
        });
        let out = linear("0.SelfAttention.o", [self.width, self.attention])?;
        let mut dense = |name: &str, shape| linear(&format!("1.DenseReluDense.{name}"), shape);
        let (gate, up) = (dense("wi_0", [self.hidden, self.width])?, dense("wi_1", [self.hidden, self.width])?);
        let down = dense("wo", [self.width, self.hidden])?;
        let mut norm = |name: &str| self.norm(tensors, &key(name)).map(Some);
        let attention = Attention {
            norm: norm("0.layer_norm.weight")?,
            shift: false,
            qkv: llama::joined(&[q?, k?, v?]),
            head_norm: None,
            mask: Mask::Full,
            out,
            post_norm: None,
        };
        let mlp = Mlp {
            norm: norm("1.layer_norm.weight")?,
            shift: false,
            up,
            gate: Some(gate),
            activation: Activation::GeluTanh,
            mid_norm: None,
            down,
            post_norm: None,
        };
        Ok((attention, mlp))
    }

    fn norm(&self, tensors: &mut Tensors<'_>, key: &str) -> Result<Normalization, Error> {
        Ok(Normalization::RootMeanSquare { weight: tensors.take(key, &[self.width])?, epsilon: self.epsilon })
    }
}

#[cfg(test)]
mod tests {
    use super::Sizes;

    #[test]
    fn distances_are_of_the_kinds_that_the_original_counts() {
        let sizes = Sizes {
            text_ids: 1,
            width: 1,
            heads: 1,
            attention: 1,
            hidden: 1,
            layers: 1,
            buckets: 32,
            farthest: 128,
            epsilon: 0.0,
        };
        // Of transformers 5.23.0.
        let kinds = [(-200, 15), (-91, 15), (-90, 14), (-64, 14), (-40, 12), (-12, 9), (-8, 8), (-7, 7), (0, 0)];
        let behind = [(1, 17), (7, 23), (8, 24), (11, 24), (16, 26), (23, 27), (32, 28), (64, 30), (91, 31), (128, 31)];
        for (distance, kind) in kinds.into_iter().chain(behind) {
            assert_eq!(sizes.bucket(distance), kind, "{distance}");
        }
    }
}
