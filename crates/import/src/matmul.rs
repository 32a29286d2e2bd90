//! Products with matrices in 4 or 8 bits: ONNX Runtime's `MatMulNBits`.

use crate::{
    Error,
    blocks::{BLOCK, Bits, Blocks},
    graph::{Attribute, Graph, MICROSOFT_DOMAIN, Value, within_16_bits},
    onnx::DataType,
    tensor::Tensor,
};

/// Products in 8-bit integers, of activations whose scales are those of a row's blocks: rows do not meet.
const ACCURACY_LEVEL: i64 = 4;
/// Products by 4-bit matrices have another kernel for a single row, which adds up in another order, also where a single row is left of many
/// (ONNX Runtime cuts them into pieces of 128). An even number of rows never leaves one.
const PIECE: i64 = 2;

/// The rows of what is multiplied.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    /// What `Pad` adds to make their number even.
    pads: Value,
    /// Their number, \[1\].
    count: Value,
}

impl Graph {
    /// From here on, maps ([`Graph::linear`]) are in blocks, where the precision asks for it, and what they map has as many rows as `of` has numbers.
    pub(crate) fn in_blocks(&mut self, of: &Value) -> Result<(), Error> {
        let Some(bits) = self.weights().bits() else { return Ok(()) };
        let rows = match bits {
            Bits::Eight => None,
            Bits::Four => {
                let count = self.op("Shape", &[of], &[]);
                let (piece, before, after) = (self.ints(&[PIECE])?, self.ints(&[0, 0])?, self.ints(&[0])?);
                let odd = self.op("Mod", &[&count, &piece], &[]);
                let pads = self.op("Concat", &[&before, &odd, &after], &[("axis", Attribute::Int(0))]);
                Some(Rows { pads, count })
            }
        };
        self.set_blocks(bits, rows);
        Ok(())
    }

    /// x · matrixᵀ of \[n, in\] and \[out, in\], the matrix in blocks.
    pub(crate) fn product_in_blocks(&mut self, x: &Value, matrix: &Tensor, bits: Bits) -> Result<Value, Error> {
        let [outputs, inputs] = [matrix.shape[0], matrix.shape[1]];
        within_16_bits(matrix)?;
        let blocks = Blocks::of(matrix, bits);
        let shape = [outputs, blocks.across, BLOCK * bits.count() / 8];
        let codes = self.constant(&format!("{}.codes", matrix.name), DataType::Uint8, &shape, blocks.codes)?;
        let scales = Tensor::new(format!("{}.scales", matrix.name), &[outputs, blocks.across], blocks.scales);
        let scales = self.exact(&scales)?;
        let attributes = [
            ("K", Attribute::Int(inputs as i64)),
            ("N", Attribute::Int(outputs as i64)),
            ("bits", Attribute::Int(bits.count() as i64)),
            ("block_size", Attribute::Int(BLOCK as i64)),
            ("accuracy_level", Attribute::Int(ACCURACY_LEVEL)),
        ];
        let rows = self.rows().filter(|_| bits == Bits::Four);
        let x = rows.as_ref().map_or_else(|| x.clone(), |rows| self.op("Pad", &[x, &rows.pads], &[]));
        let y = self.op_in(MICROSOFT_DOMAIN, "MatMulNBits", &[&x, &codes, &scales], &attributes);
        let Some(rows) = rows else { return Ok(y) };
        let (start, axis) = (self.ints(&[0])?, self.ints(&[0])?);
        Ok(self.op("Slice", &[&y, &start, &rows.count, &axis], &[]))
    }
}
