//! A convolutional network under construction, one layer after another.

use crate::{
    Error,
    graph::{Attribute, Graph, Value},
    layers::Conv,
    tensor::Tensor,
};

/// More rows, or columns, than any map has.
const MOST: usize = 1 << 20;

/// A graph and the map that its next layer reads: \[b, channels, rows, columns\].
pub(crate) struct Net {
    pub(crate) graph: Graph,
    pub(crate) x: Value,
    pub(crate) channels: usize,
    /// Rows, columns.
    pub(crate) size: [usize; 2],
}

/// Normalisation over all positions and a group of channels, then a weight and a bias of each channel.
pub(crate) struct GroupNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
}

/// x + convolution(SiLU(norm(convolution(SiLU(norm(x)))))).
pub(crate) struct Residual {
    pub(crate) norms: [GroupNorm; 2],
    pub(crate) convs: [Conv; 2],
    /// What x goes through where the channels change.
    pub(crate) shortcut: Option<Conv>,
}

/// x + out(attention(norm(x))) of one head over all positions; the maps are 1×1 convolutions.
pub(crate) struct Attention {
    pub(crate) norm: GroupNorm,
    pub(crate) qkv: [Conv; 3],
    pub(crate) out: Conv,
}

impl Net {
    /// A convolution that keeps the size; the kernel is odd.
    pub(crate) fn conv(&mut self, conv: &Conv) -> Result<(), Error> {
        self.x = self.graph.conv(&self.x, conv, 1, conv.weight.shape[2] / 2, 1)?;
        self.channels = conv.weight.shape[0];
        Ok(())
    }

    /// A 1×1 convolution whose weights stay in full precision.
    pub(crate) fn exact_conv(&mut self, conv: &Conv) -> Result<(), Error> {
        let mut inputs = vec![self.x.clone(), self.graph.exact(&conv.weight)?];
        if let Some(bias) = &conv.bias {
            inputs.push(self.graph.exact(bias)?);
        }
        let inputs: Vec<&Value> = inputs.iter().collect();
        self.x = self.graph.op("Conv", &inputs, &[("kernel_shape", Attribute::Ints(vec![1, 1]))]);
        self.channels = conv.weight.shape[0];
        Ok(())
    }

    /// A 3×3 convolution of every second place, padded at the bottom and on the right.
    pub(crate) fn halve(&mut self, conv: &Conv) -> Result<(), Error> {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ("strides", Attribute::Ints(vec![2, 2])),
            ("pads", Attribute::Ints(vec![0, 0, 1, 1])),
        ];
        self.strided("Conv", conv, &attributes)?;
        self.channels = conv.weight.shape[0];
        self.size = self.size.map(|n| n / 2);
        Ok(())
    }

    /// A convolution with kernel 4 and stride 2, which halves the size.
    pub(crate) fn halve_overlapping(&mut self, conv: &Conv) -> Result<(), Error> {
        self.x = self.graph.conv(&self.x, conv, 2, 1, 1)?;
        self.channels = conv.weight.shape[0];
        self.size = self.size.map(|n| n / 2);
        Ok(())
    }

    /// A transposed convolution with kernel 4 and stride 2, which doubles the size; weights \[in, out, 4, 4\].
    pub(crate) fn double_overlapping(&mut self, conv: &Conv) -> Result<(), Error> {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![4, 4])),
            ("strides", Attribute::Ints(vec![2, 2])),
            ("pads", Attribute::Ints(vec![1; 4])),
        ];
        self.strided("ConvTranspose", conv, &attributes)?;
        self.channels = conv.weight.shape[1];
        self.size = self.size.map(doubled);
        Ok(())
    }

    fn strided(&mut self, operator: &'static str, conv: &Conv, attributes: &[(&str, Attribute)]) -> Result<(), Error> {
        let mut inputs = vec![self.x.clone(), self.graph.weight(&conv.weight)?];
        if let Some(bias) = &conv.bias {
            inputs.push(self.graph.weight(bias)?);
        }
        let inputs: Vec<&Value> = inputs.iter().collect();
        self.x = self.graph.op(operator, &inputs, attributes);
        Ok(())
    }

    /// The greatest of each 2×2 places.
    pub(crate) fn pool(&mut self) {
        let attributes = [("kernel_shape", Attribute::Ints(vec![2, 2])), ("strides", Attribute::Ints(vec![2, 2]))];
        self.x = self.graph.op("MaxPool", &[&self.x], &attributes);
        self.size = self.size.map(|n| n / 2);
    }

    /// Every place twice, in rows and columns.
    pub(crate) fn double(&mut self) -> Result<(), Error> {
        self.x = enlarge(&mut self.graph, &self.x, 2)?;
        self.size = self.size.map(doubled);
        Ok(())
    }

    pub(crate) fn relu(&mut self) {
        self.x = self.graph.op("Relu", &[&self.x], &[]);
    }

    pub(crate) fn silu(&mut self) {
        let gate = self.graph.op("Sigmoid", &[&self.x], &[]);
        self.x = self.graph.mul(&self.x, &gate);
    }

    pub(crate) fn norm(&mut self, norm: &GroupNorm) -> Result<(), Error> {
        self.x = self.normed(norm)?;
        Ok(())
    }

    fn normed(&mut self, norm: &GroupNorm) -> Result<Value, Error> {
        let normed = self.standardised(norm.groups, norm.epsilon)?;
        let [weight, bias] =
            [&norm.weight, &norm.bias].map(|t| Tensor::new(t.name.clone(), &[t.shape[0], 1, 1], t.values.clone()));
        let (weight, bias) = (self.graph.exact(&weight)?, self.graph.exact(&bias)?);
        let scaled = self.graph.mul(&normed, &weight);
        Ok(self.graph.add(&scaled, &bias))
    }

    /// Mean 0 and variance 1 in each group.
    pub(crate) fn standardised(&mut self, groups: usize, epsilon: f32) -> Result<Value, Error> {
        let graph = &mut self.graph;
        let ones = graph.exact(&Tensor::new("ones", &[groups], vec![1.0; groups]))?;
        let zeros = graph.exact(&Tensor::new("zeros", &[groups], vec![0.0; groups]))?;
        let grouped = graph.reshape(&self.x, &[0, groups as i64, -1])?;
        let epsilon = [("epsilon", Attribute::Float(epsilon))];
        let normed = graph.op("InstanceNormalization", &[&grouped, &ones, &zeros], &epsilon);
        graph.reshape(&normed, &[-1, self.channels as i64, self.size[0] as i64, self.size[1] as i64])
    }

    pub(crate) fn residual(&mut self, block: &Residual) -> Result<(), Error> {
        let (before, channels) = (self.x.clone(), self.channels);
        for (norm, conv) in block.norms.iter().zip(&block.convs) {
            self.norm(norm)?;
            self.silu();
            self.conv(conv)?;
        }
        let inner = std::mem::replace(&mut self.x, before);
        if let Some(shortcut) = &block.shortcut {
            self.channels = channels;
            self.conv(shortcut)?;
        }
        self.x = self.graph.add(&self.x, &inner);
        Ok(())
    }

    pub(crate) fn attention(&mut self, block: &Attention) -> Result<(), Error> {
        let before = self.x.clone();
        self.norm(&block.norm)?;
        self.attend(&block.qkv, &block.out)?;
        self.x = self.graph.add(&before, &self.x);
        Ok(())
    }

    /// out(attention(x)).
    pub(crate) fn attend(&mut self, qkv: &[Conv; 3], out: &Conv) -> Result<(), Error> {
        let [channels, rows, columns] = [self.channels, self.size[0], self.size[1]].map(|n| n as i64);
        let [q, k, v] = qkv.each_ref();
        let mut project = |conv: &Conv| {
            let y = self.graph.conv(&self.x, conv, 1, 0, 1)?;
            self.graph.reshape(&y, &[0, channels, rows * columns])
        };
        let (q, k, v) = (project(q)?, project(k)?, project(v)?);
        let graph = &mut self.graph;
        let q = graph.transpose(&q, &[0, 2, 1]);
        let scale = graph.float((channels as f32).sqrt().recip())?;
        let scores = graph.op("MatMul", &[&q, &k], &[]);
        let scores = graph.mul(&scores, &scale);
        let shares = graph.op("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let shares = graph.transpose(&shares, &[0, 2, 1]);
        let context = graph.op("MatMul", &[&v, &shares], &[]);
        self.x = graph.reshape(&context, &[0, channels, rows, columns])?;
        self.conv(out)
    }

    /// Multiplies by a number.
    pub(crate) fn scale(&mut self, factor: f32) -> Result<(), Error> {
        let factor = self.graph.float(factor)?;
        self.x = self.graph.mul(&self.x, &factor);
        Ok(())
    }

    /// Channels of 2×2 places side by side: \[b, 4 c, h, w\] → \[b, c, 2 h, 2 w\], the place slower than the channel.
    pub(crate) fn unfold(&mut self) {
        let attributes = [("blocksize", Attribute::Int(2)), ("mode", Attribute::Text("DCR"))];
        self.x = self.graph.op("DepthToSpace", &[&self.x], &attributes);
        self.channels /= 4;
        self.size = self.size.map(doubled);
    }
}

/// Twice as many rows or columns; a number that no picture has stays what it is, until the picture is refused.
fn doubled(n: usize) -> usize {
    (2 * n).min(MOST)
}

/// Every place `factor` times, in rows and columns.
pub(crate) fn enlarge(graph: &mut Graph, x: &Value, factor: usize) -> Result<Value, Error> {
    let factor = factor as f32;
    let scales = graph.exact(&Tensor::new("scales", &[4], vec![1.0, 1.0, factor, factor]))?;
    let attributes = [
        ("mode", Attribute::Text("nearest")),
        ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
        ("nearest_mode", Attribute::Text("floor")),
    ];
    Ok(graph.op("Resize", &[x, &Value::absent(), &scales], &attributes))
}
