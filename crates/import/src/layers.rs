//! What every network here is made of: linear maps, norms, activations, convolutions, heads.

use serde::Deserialize;

use crate::{
    Error,
    blocks::{BLOCK, Bits},
    graph::{Attribute, Graph, Value},
    onnx::DataType,
    tensor::Tensor,
};

/// y = x · Wᵀ + b, with W \[out, in\] as PyTorch keeps it.
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// Layer normalisation over the last axis.
pub(crate) struct Norm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) epsilon: f32,
}

/// What a transformer scales its activations by.
pub(crate) enum Normalization {
    /// By mean and variance.
    Layer(Norm),
    /// By the root mean square.
    RootMeanSquare { weight: Tensor, epsilon: f32 },
    /// By the largest number (dalle-pytorch's `stable`).
    Maximum,
}

/// A two-dimensional convolution, weights \[out, in / groups, height, width\].
pub(crate) struct Conv {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// The non-linearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// x · Φ(x).
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    /// x · σ(1.702 x).
    QuickGelu,
    /// x · σ(x).
    Silu,
    /// max(x, 0)² (So et al. 2021, Primer).
    ReluSquared,
}

impl Graph {
    pub(crate) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Add", &[a, b], &[])
    }

    pub(crate) fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.op("Mul", &[a, b], &[])
    }

    /// A 0 in `shape` keeps that axis, a −1 is what is left.
    pub(crate) fn reshape(&mut self, x: &Value, shape: &[i64]) -> Result<Value, Error> {
        let shape = self.ints(shape)?;
        Ok(self.op("Reshape", &[x, &shape], &[]))
    }

    pub(crate) fn transpose(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.op("Transpose", &[x], &[("perm", Attribute::Ints(axes.into()))])
    }

    pub(crate) fn gather(&mut self, table: &Value, ids: &Value) -> Value {
        self.op("Gather", &[table, ids], &[("axis", Attribute::Int(0))])
    }

    pub(crate) fn linear(&mut self, x: &Value, linear: &Linear) -> Result<Value, Error> {
        self.map(x, linear, self.bits())
    }

    /// The map to logits: what is lost there shows at once, so that blocks are of 8 bits.
    pub(crate) fn head(&mut self, x: &Value, linear: &Linear) -> Result<Value, Error> {
        self.map(x, linear, self.bits().map(|_| Bits::Eight))
    }

    /// In blocks of these bits, or, without or where a row is shorter than a block, in the weights' precision.
    fn map(&mut self, x: &Value, linear: &Linear, bits: Option<Bits>) -> Result<Value, Error> {
        if let Some(bits) = bits.filter(|_| linear.weight.shape[1] >= BLOCK) {
            return self.product_in_blocks(x, &linear.weight, linear.bias.as_ref(), bits);
        }
        let weight = self.computed(&linear.weight.transposed())?;
        let x = self.narrowed(x);
        let y = self.op("MatMul", &[&x, &weight], &[]);
        self.biased(&y, linear.bias.as_ref())
    }

    pub(crate) fn biased(&mut self, y: &Value, bias: Option<&Tensor>) -> Result<Value, Error> {
        let Some(bias) = bias else { return Ok(y.clone()) };
        let bias = self.computed(bias)?;
        Ok(self.add(y, &bias))
    }

    pub(crate) fn norm(&mut self, x: &Value, norm: &Norm) -> Result<Value, Error> {
        let (weight, bias) = (self.weight(&norm.weight)?, self.weight(&norm.bias)?);
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(norm.epsilon))];
        Ok(self.op("LayerNormalization", &[x, &weight, &bias], &attributes))
    }

    pub(crate) fn activate(&mut self, x: &Value, activation: Activation) -> Result<Value, Error> {
        Ok(match activation {
            Activation::Gelu => self.op("Gelu", &[x], &[("approximate", Attribute::Text("none"))]),
            Activation::GeluTanh => self.op("Gelu", &[x], &[("approximate", Attribute::Text("tanh"))]),
            Activation::QuickGelu => {
                let factor = self.float(1.702)?;
                let scaled = self.mul(x, &factor);
                let gate = self.op("Sigmoid", &[&scaled], &[]);
                self.mul(x, &gate)
            }
            Activation::Silu => {
                let gate = self.op("Sigmoid", &[x], &[]);
                self.mul(x, &gate)
            }
            Activation::ReluSquared => {
                let positive = self.op("Relu", &[x], &[]);
                self.mul(&positive, &positive)
            }
        })
    }

    /// Over the last axis.
    pub(crate) fn normalize(&mut self, x: &Value, by: &Normalization) -> Result<Value, Error> {
        match by {
            Normalization::Layer(norm) => self.norm(x, norm),
            Normalization::RootMeanSquare { weight, epsilon } => self.rms_norm(x, weight, *epsilon),
            Normalization::Maximum => {
                let axes = self.ints(&[-1])?;
                let largest = self.op("ReduceMax", &[x, &axes], &[("keepdims", Attribute::Int(1))]);
                Ok(self.op("Div", &[x, &largest], &[]))
            }
        }
    }

    /// Square kernel and stride, padding on all sides, as many groups.
    pub(crate) fn conv(
        &mut self,
        x: &Value,
        conv: &Conv,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Result<Value, Error> {
        let kernel = conv.weight.shape[2..].iter().map(|n| *n as i64).collect();
        let mut inputs = vec![self.weight(&conv.weight)?];
        if let Some(bias) = &conv.bias {
            inputs.push(self.weight(bias)?);
        }
        let inputs: Vec<&Value> = std::iter::once(x).chain(&inputs).collect();
        let attributes = [
            ("kernel_shape", Attribute::Ints(kernel)),
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
            ("pads", Attribute::Ints(vec![padding as i64; 4])),
            ("group", Attribute::Int(groups as i64)),
        ];
        Ok(self.op("Conv", &inputs, &attributes))
    }

    /// \[b, c·s², h, w\] → \[b, c, h·s, w·s\], in PyTorch's order.
    pub(crate) fn pixel_shuffle(&mut self, x: &Value, factor: usize) -> Value {
        let attributes = [("blocksize", Attribute::Int(factor as i64)), ("mode", Attribute::Text("CRD"))];
        self.op("DepthToSpace", &[x], &attributes)
    }

    /// Bytes \[b, height, width, 3\] → floats \[b, 3, height, width\], 0 … 255.
    pub(crate) fn planes(&mut self, pixels: &Value) -> Value {
        let planes = self.transpose(pixels, &[0, 3, 1, 2]);
        self.cast(&planes, DataType::Float)
    }

    /// Divides by the root mean square over the last axis, then multiplies by `weight`: the very operators that ONNX Runtime fuses into one.
    pub(crate) fn rms_norm(&mut self, x: &Value, weight: &Tensor, epsilon: f32) -> Result<Value, Error> {
        let (axes, two, weight) = (self.ints(&[-1])?, self.float(2.0)?, self.weight(weight)?);
        let epsilon = self.float(epsilon)?;
        let square = self.op("Pow", &[x, &two], &[]);
        let mean = self.op("ReduceMean", &[&square, &axes], &[("keepdims", Attribute::Int(1))]);
        let mean = self.add(&mean, &epsilon);
        let root = self.op("Sqrt", &[&mean], &[]);
        let normed = self.op("Div", &[x, &root], &[]);
        Ok(self.mul(&normed, &weight))
    }

    /// Scales the last axis to length 1.
    pub(crate) fn unit(&mut self, x: &Value) -> Result<Value, Error> {
        let axes = self.ints(&[-1])?;
        let least = self.float(1e-12)?;
        let length = self.op("ReduceL2", &[x, &axes], &[("keepdims", Attribute::Int(1))]);
        let length = self.op("Max", &[&length, &least], &[]);
        Ok(self.op("Div", &[x, &length], &[]))
    }
}
