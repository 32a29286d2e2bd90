//! Decoders of Llama's kind, in the names of Hugging Face: what several families build on.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, Mask,
    checkpoint::{self, Tensors},
    layers::{Activation, Linear, Normalization},
    tensor::Tensor,
    transformer::{Attention, Count, Geometry, Layer, Mlp, Pairs, Rotary, Streams},
};

/// A language model's configuration, with Hugging Face's own defaults.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(default = "Config::hidden_size")]
    pub(crate) hidden_size: usize,
    #[serde(default = "Config::intermediate_size")]
    intermediate_size: usize,
    #[serde(default = "Config::layers")]
    pub(crate) num_hidden_layers: usize,
    #[serde(default = "Config::layers")]
    pub(crate) num_attention_heads: usize,
    #[serde(default)]
    num_key_value_heads: Option<usize>,
    #[serde(default)]
    head_dim: Option<usize>,
    #[serde(default = "Config::epsilon")]
    rms_norm_eps: f32,
    #[serde(default)]
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_parameters: Value,
    #[serde(default)]
    rope_scaling: Value,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    hidden_act: Option<String>,
    #[serde(default = "Config::vocabulary")]
    pub(crate) vocab_size: usize,
}

impl Config {
    fn hidden_size() -> usize {
        4096
    }

    fn intermediate_size() -> usize {
        11008
    }

    fn layers() -> usize {
        32
    }

    fn epsilon() -> f32 {
        1e-6
    }

    fn vocabulary() -> usize {
        32_000
    }

    /// Reads and checks the part of the configuration at `path` that is called `field`; empty: all of it.
    pub(crate) fn parse(path: &Path, field: &str, value: &Value) -> Result<Self, Error> {
        let config: Self = checkpoint::parse(path, field, value)?;
        let fail = |name: &str, expected: String, found: String| {
            let field = if field.is_empty() { name.into() } else { format!("{field}.{name}") };
            Err(Error::Field { path: path.into(), field, expected, found })
        };
        for (name, found, most) in [
            ("hidden_size", config.hidden_size, 1 << 16),
            ("intermediate_size", config.intermediate_size, 1 << 18),
            ("num_hidden_layers", config.num_hidden_layers, 1024),
            ("num_attention_heads", config.num_attention_heads, 1024),
            ("num_key_value_heads", config.key_heads(), config.num_attention_heads.min(1024)),
            ("head_dim", config.head_width(), 1024),
            ("vocab_size", config.vocab_size, 1 << 24),
        ] {
            if !(1..=most).contains(&found) {
                return fail(name, format!("1 … {most}"), found.to_string());
            }
        }
        if !config.num_attention_heads.is_multiple_of(config.key_heads()) || config.head_width() % 2 == 1 {
            let found = format!("{} for {}", config.key_heads(), config.num_attention_heads);
            return fail("num_key_value_heads", "a divisor of the heads, of an even width".into(), found);
        }
        if let Some(activation) = config.hidden_act.as_deref().filter(|activation| *activation != "silu") {
            return fail("hidden_act", "silu".into(), activation.into());
        }
        if config.mlp_bias {
            return fail("mlp_bias", "false".into(), "true".into());
        }
        let kind = [&config.rope_scaling, &config.rope_parameters].map(|rope| {
            rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default").to_owned()
        });
        match kind.into_iter().find(|kind| kind != "default") {
            Some(kind) => fail("rope_type", "default".into(), kind),
            None => Ok(config),
        }
    }

    pub(crate) fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    pub(crate) fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The decoder over a text of `text_length` positions and a grid.
    pub(crate) fn geometry(&self, text_length: usize, [rows, columns]: [usize; 2], codebook: usize) -> Geometry {
        Geometry {
            width: self.hidden_size,
            heads: self.key_heads(),
            query_heads: self.num_attention_heads,
            head_width: self.head_width(),
            layers: self.num_hidden_layers,
            text_length,
            mask_text_length: text_length,
            rows,
            columns,
            codebook,
            kernel: 0,
            attention_scale: (self.head_width() as f32).powf(-0.5),
            streams: Streams::One,
            count: Count::Ordinals,
        }
    }

    /// What turns queries and keys at the first `positions` positions: angles in 32 bits, as the original computes them.
    pub(crate) fn rotary(&self, positions: usize) -> Rotary {
        let width = self.head_width();
        let theta = self.rope_parameters["rope_theta"].as_f64().or(self.rope_theta).unwrap_or(10_000.0);
        let frequencies: Vec<f32> =
            (0..width / 2).map(|i| 1.0 / (theta.powf(2.0 * i as f64 / width as f64)) as f32).collect();
        let table = |name: &str, of: fn(f64) -> f64| {
            let row =
                |p: usize| frequencies.iter().chain(&frequencies).map(move |f| of(f64::from(p as f32 * f)) as f32);
            Tensor::new(name, &[positions, width], (0..positions).flat_map(row).collect())
        };
        Rotary {
            cosines: table("cosines", f64::cos),
            sines: table("sines", f64::sin),
            pairs: Pairs::Halves,
            values: false,
        }
    }

    /// Layer `i` of the model whose keys begin with `prefix`.
    pub(crate) fn layer(&self, tensors: &mut Tensors<'_>, prefix: &str, i: usize) -> Result<Layer, Error> {
        let key = |name: &str| format!("{prefix}layers.{i}.{name}");
        let (queries, keys) = (self.num_attention_heads * self.head_width(), self.key_heads() * self.head_width());
        let (width, hidden) = (self.hidden_size, self.intermediate_size);
        let mut linear = |name: &str, shape: [usize; 2], bias: bool| linear(tensors, &key(name), shape, bias);
        let bias = self.attention_bias;
        let qkv = [
            linear("self_attn.q_proj", [queries, width], bias)?,
            linear("self_attn.k_proj", [keys, width], bias)?,
            linear("self_attn.v_proj", [keys, width], bias)?,
        ];
        let out = linear("self_attn.o_proj", [width, queries], bias)?;
        let (gate, up) =
            (linear("mlp.gate_proj", [hidden, width], false)?, linear("mlp.up_proj", [hidden, width], false)?);
        let down = linear("mlp.down_proj", [width, hidden], false)?;
        let attention = Attention {
            norm: Some(self.norm(tensors, &key("input_layernorm"))?),
            shift: false,
            qkv: joined(&qkv),
            head_norm: None,
            mask: Mask::Full,
            out,
            post_norm: None,
        };
        let mlp = Mlp {
            norm: Some(self.norm(tensors, &key("post_attention_layernorm"))?),
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

    /// The norm with the key `key`.
    pub(crate) fn norm(&self, tensors: &mut Tensors<'_>, key: &str) -> Result<Normalization, Error> {
        let weight = tensors.take(&format!("{key}.weight"), &[self.hidden_size])?;
        Ok(Normalization::RootMeanSquare { weight, epsilon: self.rms_norm_eps })
    }
}

/// The linear map with the key `key`.
pub(crate) fn linear(
    tensors: &mut Tensors<'_>,
    key: &str,
    [outputs, inputs]: [usize; 2],
    bias: bool,
) -> Result<Linear, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[outputs, inputs])?;
    let bias = bias.then(|| tensors.take(&format!("{key}.bias"), &[outputs])).transpose()?;
    Ok(Linear { weight, bias })
}

/// Maps of one input as one map, their outputs one after another.
pub(crate) fn joined(maps: &[Linear; 3]) -> Linear {
    let join = |tensors: Vec<&Tensor>| {
        let rows = tensors.iter().map(|tensor| tensor.shape[0]).sum();
        let shape: Vec<usize> = std::iter::once(rows).chain(tensors[0].shape[1..].iter().copied()).collect();
        let values = tensors.iter().flat_map(|tensor| tensor.values.iter().copied()).collect();
        Tensor::new(tensors[0].name.replace("q_proj", "qkv"), &shape, values)
    };
    let biases: Option<Vec<&Tensor>> = maps.iter().map(|map| map.bias.as_ref()).collect();
    Linear { weight: join(maps.iter().map(|map| &map.weight).collect()), bias: biases.map(join) }
}
