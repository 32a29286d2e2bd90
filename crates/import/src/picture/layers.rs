//! Reads the layers of a picture's network from a checkpoint, by their keys.

use crate::{
    Error,
    checkpoint::Tensors,
    layers::Conv,
    picture::net::{Attention, GroupNorm, Residual},
    tensor::Tensor,
};

/// The keys that begin with a prefix, and what all norms among them share.
pub(crate) struct Layers<'a, 'r> {
    pub(crate) tensors: &'a mut Tensors<'r>,
    pub(crate) prefix: String,
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
}

impl Layers<'_, '_> {
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.tensors.contains(&self.key(key))
    }

    /// How many of `key(0)`, `key(1)` … there are before the first that is missing.
    pub(crate) fn count(&self, key: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|i| self.contains(&key(*i))).count()
    }

    pub(crate) fn take(&mut self, key: &str, shape: &[usize]) -> Result<Tensor, Error> {
        self.tensors.take(&self.key(key), shape)
    }

    pub(crate) fn shape<const N: usize>(&self, key: &str) -> Result<[usize; N], Error> {
        self.tensors.shape(&self.key(key))
    }

    /// A square convolution over `inputs` channels, to as many as it has; its kernel must be one of `kernels`.
    pub(crate) fn conv(&mut self, key: &str, inputs: usize, kernels: &[usize]) -> Result<Conv, Error> {
        let (weight, bias) = (format!("{key}.weight"), format!("{key}.bias"));
        self.named_conv(&weight, &bias, inputs, kernels)
    }

    /// As [`Self::conv`], with both keys in full.
    pub(crate) fn named_conv(
        &mut self,
        weight: &str,
        bias: &str,
        inputs: usize,
        kernels: &[usize],
    ) -> Result<Conv, Error> {
        let [outputs, _, kernel, _] = self.shape(weight)?;
        let kernel = if kernels.contains(&kernel) { kernel } else { kernels[0] };
        let weight = self.take(weight, &[outputs, inputs, kernel, kernel])?;
        Ok(Conv { weight, bias: Some(self.take(bias, &[outputs])?) })
    }

    /// A linear map of `width` channels as a 1×1 convolution; some keep it as a matrix.
    pub(crate) fn square(&mut self, key: &str, width: usize) -> Result<Conv, Error> {
        let name = format!("{key}.weight");
        let matrix = self.shape::<2>(&name).is_ok();
        let shape = [width, width, 1, 1];
        let weight = self.take(&name, if matrix { &shape[..2] } else { &shape })?;
        let bias = self.take(&format!("{key}.bias"), &[width])?;
        Ok(Conv { weight: Tensor::new(weight.name, &shape, weight.values), bias: Some(bias) })
    }

    pub(crate) fn norm(&mut self, key: &str, channels: usize) -> Result<GroupNorm, Error> {
        let weight = self.take(&format!("{key}.weight"), &[channels])?;
        let bias = self.take(&format!("{key}.bias"), &[channels])?;
        let (groups, epsilon) = (self.groups, self.epsilon);
        if !channels.is_multiple_of(groups) {
            let expected = format!("a multiple of {groups} channels");
            return Err(self.tensors.wrong(&weight.name, expected, channels.to_string()));
        }
        Ok(GroupNorm { weight, bias, groups, epsilon })
    }

    /// A block of two norms and two 3×3 convolutions; `shortcut` is the key of the convolution beside them, where there is one.
    pub(crate) fn residual(&mut self, key: &str, channels: usize, shortcut: &str) -> Result<Residual, Error> {
        let first = self.norm(&format!("{key}.norm1"), channels)?;
        let up = self.conv(&format!("{key}.conv1"), channels, &[3])?;
        let inner = up.weight.shape[0];
        let second = self.norm(&format!("{key}.norm2"), inner)?;
        let down = self.conv(&format!("{key}.conv2"), inner, &[3])?;
        let outer = down.weight.shape[0];
        let shortcut = format!("{key}.{shortcut}");
        let shortcut = if self.contains(&format!("{shortcut}.weight")) {
            let [_, _, kernel, _] = self.shape(&format!("{shortcut}.weight"))?;
            let kernel = if kernel == 3 { 3 } else { 1 };
            let weight = self.take(&format!("{shortcut}.weight"), &[outer, channels, kernel, kernel])?;
            Some(Conv { weight, bias: Some(self.take(&format!("{shortcut}.bias"), &[outer])?) })
        } else if outer != channels {
            let expected = format!("{channels} channels as before, or a {shortcut}");
            return Err(self.tensors.wrong(&down.weight.name, expected, outer.to_string()));
        } else {
            None
        };
        Ok(Residual { norms: [first, second], convs: [up, down], shortcut })
    }

    /// A block of attention; `names` are of its norm, queries, keys, values and output.
    pub(crate) fn attention(&mut self, key: &str, channels: usize, names: [&str; 5]) -> Result<Attention, Error> {
        let [norm, q, k, v, out] = names.map(|name| format!("{key}.{name}"));
        let norm = self.norm(&norm, channels)?;
        let qkv = [self.square(&q, channels)?, self.square(&k, channels)?, self.square(&v, channels)?];
        Ok(Attention { norm, qkv, out: self.square(&out, channels)? })
    }
}
