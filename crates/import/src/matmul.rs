//! Products with matrices in 4 or 8 bits: Easel's `MatMulPanels`, or on CUDA ONNX Runtime's `MatMulNBits` with the same numbers.

use easel_package::Device;

use crate::{
    Error,
    blocks::{BLOCK, Bits, Blocks, Panels},
    graph::{Attribute, Axis, Graph, MICROSOFT_DOMAIN, Value, within_16_bits},
    onnx::DataType,
    tensor::Tensor,
};

/// Of ONNX Runtime's: products in 8-bit integers, of activations whose scales are those of a row's blocks.
const ACCURACY_LEVEL: i64 = 4;

impl Graph {
    /// From here on, maps ([`Graph::linear`]) are in blocks, where the precision asks for it.
    pub(crate) fn in_blocks(&mut self) {
        if let Some(bits) = self.weights().bits() {
            self.set_blocks(bits);
        }
    }

    /// x · matrixᵀ + bias of \[n, in\] and \[out, in\], the matrix in blocks.
    pub(crate) fn product_in_blocks(
        &mut self,
        x: &Value,
        matrix: &Tensor,
        bias: Option<&Tensor>,
        bits: Bits,
    ) -> Result<Value, Error> {
        let [outputs, inputs] = [matrix.shape[0], matrix.shape[1]];
        within_16_bits(matrix)?;
        let blocks = Blocks::of(matrix, bits);
        let mut attributes = vec![
            ("K", Attribute::Int(inputs as i64)),
            ("N", Attribute::Int(outputs as i64)),
            ("bits", Attribute::Int(bits.count() as i64)),
        ];
        if self.device() == Device::Cuda {
            let shape = [outputs, blocks.across, BLOCK * bits.count() / 8];
            let codes = self.constant(&format!("{}.codes", matrix.name), DataType::Uint8, &shape, blocks.codes)?;
            let scales = Tensor::new(format!("{}.scales", matrix.name), &[outputs, blocks.across], blocks.scales);
            let scales = self.exact(&scales)?;
            attributes.push(("block_size", Attribute::Int(BLOCK as i64)));
            attributes.push(("accuracy_level", Attribute::Int(ACCURACY_LEVEL)));
            let y = self.op_in(MICROSOFT_DOMAIN, "MatMulNBits", &[x, &codes, &scales], &attributes);
            return self.biased(&y, bias);
        }
        let Panels { bytes, count, panel_bytes } = blocks.panels(bits);
        let name = format!("{}.panels", matrix.name);
        let mut inputs = vec![x.clone(), self.constant(&name, DataType::Uint8, &[count, panel_bytes], bytes)?];
        if let Some(bias) = bias {
            inputs.push(self.exact(bias)?);
        }
        let shape = [Axis::Free("rows"), Axis::Of(outputs)];
        Ok(self.easel_op("MatMulPanels", &inputs.iter().collect::<Vec<_>>(), &attributes, &shape))
    }
}
