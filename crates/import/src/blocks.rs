//! Matrices in 4 or 8 bits: along each row, blocks of numbers that share a scale, of 16 bits (the upper ones of a float).

use crate::tensor::Tensor;

/// Numbers that share a scale.
pub(crate) const BLOCK: usize = 32;
/// A float to which adding another of less than half its size, and taking it away again, rounds that one to a whole number, ties to even.
const ROUND: f32 = 12_582_912.0;
/// What the number furthest from zero becomes in 4 bits, for the first of these that comes closest in the mean square over its block. Codes end at −8 and 7:
/// a block's other end, or what is cut off at −9, may be worth more than the furthest number.
const FURTHEST: [f32; 6] = [-8.0, -7.5, -7.0, -6.5, -8.5, -9.0];

/// How many bits a number takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Four,
    Eight,
}

impl Bits {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The codes of zero and of the ends, relative to it.
    fn range(self) -> (f32, f32, f32) {
        match self {
            Self::Four => (8.0, -8.0, 7.0),
            Self::Eight => (128.0, -127.0, 127.0),
        }
    }
}

/// Rows of a matrix that lie beside one another in a panel.
const PANEL: usize = 16;

/// A matrix \[rows, columns\]: number = (code − 2^(bits − 1)) · scale of its block. As ONNX Runtime's `MatMulNBits` takes it.
pub(crate) struct Blocks {
    /// \[rows, blocks of a row, bytes of a block\]; of two codes in a byte, the first has the lower bits. A row's last block is filled up with zeros.
    pub(crate) codes: Vec<u8>,
    /// \[rows, blocks of a row\]
    pub(crate) scales: Vec<f32>,
    /// Blocks of a row.
    pub(crate) across: usize,
}

impl Blocks {
    pub(crate) fn of(matrix: &Tensor, bits: Bits) -> Self {
        let columns = matrix.shape[1];
        let across = columns.div_ceil(BLOCK);
        let blocks = matrix.shape[0] * across;
        let (mut codes, mut scales) =
            (Vec::with_capacity(blocks * BLOCK * bits.count() / 8), Vec::with_capacity(blocks));
        for row in matrix.values.chunks_exact(columns) {
            for numbers in row.chunks(BLOCK) {
                let mut block = [0.0; BLOCK];
                block[..numbers.len()].copy_from_slice(numbers);
                let scale = scale(&block, bits);
                let zero = bits.range().0;
                let code = rounded(&block, scale, bits).map(|whole| (whole + zero) as u8);
                match bits {
                    Bits::Four => codes.extend(code.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4)),
                    Bits::Eight => codes.extend(code),
                }
                scales.push(scale);
            }
        }
        Self { codes, scales, across }
    }

    /// The same as `easel.MatMulPanels` takes it: what a register multiplies at once lies side by side. Of sixteen rows, of block after block the codes of columns 0 … 3
    /// of each row, then of columns 4 … 7, and so on; in 4 bits those of columns 16 … 31 in the same bytes as those of columns 0 … 15, in the upper half. Then the
    /// upper 16 bits of the scales, of block after block those of all rows. Rows that there are not are zeros.
    pub(crate) fn panels(&self, bits: Bits) -> Panels {
        let (row_bytes, block_bytes) = (self.across * BLOCK * bits.count() / 8, BLOCK * bits.count() / 8);
        let (count, panel_bytes) = (self.scales.len() / self.across, PANEL * (row_bytes + 2 * self.across));
        let mut bytes = vec![0; count.div_ceil(PANEL) * panel_bytes];
        let panels = bytes.chunks_exact_mut(panel_bytes);
        let rows = self.codes.chunks(PANEL * row_bytes).zip(self.scales.chunks(PANEL * self.across));
        for (panel, (codes, scales)) in panels.zip(rows) {
            let (to, scales_to) = panel.split_at_mut(PANEL * row_bytes);
            for (lane, (codes, scales)) in codes.chunks(row_bytes).zip(scales.chunks(self.across)).enumerate() {
                for (block, codes) in codes.chunks(block_bytes).enumerate() {
                    let to = &mut to[block * PANEL * block_bytes..];
                    for (four, codes) in in_panels(codes, bits).chunks(4).enumerate() {
                        to[4 * (four * PANEL + lane)..][..4].copy_from_slice(codes);
                    }
                }
                for (block, scale) in scales.iter().enumerate() {
                    scales_to[2 * (block * PANEL + lane)..][..2].copy_from_slice(&scale.to_le_bytes()[2..]);
                }
            }
        }
        Panels { bytes, count: count.div_ceil(PANEL), panel_bytes }
    }
}

/// A matrix in panels: \[`count`, `panel_bytes`\].
pub(crate) struct Panels {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: usize,
    pub(crate) panel_bytes: usize,
}

/// A block's codes in the bytes of its panel: in 4 bits each beside the one that is half a block behind it.
fn in_panels(codes: &[u8], bits: Bits) -> Vec<u8> {
    if bits == Bits::Eight {
        return codes.to_vec();
    }
    let code = |i: usize| codes[i / 2] >> (i % 2 * 4) & 15;
    (0..BLOCK / 2).map(|i| code(i) | code(i + BLOCK / 2) << 4).collect()
}

/// The upper 16 bits, rounded to the nearest, ties to even.
fn short(scale: f32) -> f32 {
    let bits = scale.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

fn scale(block: &[f32; BLOCK], bits: Bits) -> f32 {
    let furthest = block.iter().fold(0.0_f32, |a, b| if b.abs() > a.abs() { *b } else { a });
    match bits {
        // Rounded up, so that no number is further than the last code.
        Bits::Eight => f32::from_bits(((furthest.abs() / bits.range().2).to_bits() + 0xffff) & 0xffff_0000),
        Bits::Four => {
            let error = |scale: f32| -> f32 {
                let whole = rounded(block, scale, bits);
                block.iter().zip(whole).map(|(number, whole)| (number - whole * scale).powi(2)).sum()
            };
            let tried = FURTHEST.map(|code| short(furthest / code)).map(|scale| (scale, error(scale)));
            tried.into_iter().reduce(|best, next| if next.1 < best.1 { next } else { best }).map_or(0.0, |best| best.0)
        }
    }
}

/// Whole numbers that times `scale` are nearest to a block's.
fn rounded(block: &[f32; BLOCK], scale: f32, bits: Bits) -> [f32; BLOCK] {
    let inverse = 1.0 / scale;
    if !inverse.is_finite() {
        return [0.0; BLOCK];
    }
    let (_, low, high) = bits.range();
    block.map(|number| (number * inverse).clamp(low, high) + ROUND - ROUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::random::Random;

    /// The numbers that the blocks stand for.
    fn numbers(blocks: &Blocks, bits: Bits, columns: usize) -> Vec<f32> {
        let codes: Vec<u8> = match bits {
            Bits::Four => blocks.codes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect(),
            Bits::Eight => blocks.codes.clone(),
        };
        let zero = 1 << (bits.count() - 1);
        let number = |(i, code): (usize, &u8)| f32::from(i16::from(*code) - zero) * blocks.scales[i / BLOCK];
        let padded: Vec<f32> = codes.iter().enumerate().map(number).collect();
        padded.chunks_exact(blocks.across * BLOCK).flat_map(|row| row[..columns].to_vec()).collect()
    }

    fn matrix(rows: usize, columns: usize, spread: f32, random: &mut Random) -> Tensor {
        Tensor::new("m", &[rows, columns], (0..rows * columns).map(|_| spread * random.normal()).collect())
    }

    #[test]
    fn every_number_comes_back_within_what_its_blocks_scale_allows() {
        let random = &mut Random::new(3);
        for (columns, spread) in [(32, 1.0), (160, 0.02), (30, 100.0), (33, 1e-6), (1, 1.0)] {
            let matrix = matrix(7, columns, spread, random);
            for (bits, steps) in [(Bits::Eight, 0.5001), (Bits::Four, 1.02)] {
                let blocks = Blocks::of(&matrix, bits);
                let back = numbers(&blocks, bits, columns);
                let rows = matrix.values.chunks(columns).zip(back.chunks(columns));
                for (i, (row, back)) in rows.enumerate() {
                    for (j, (number, back)) in row.iter().zip(back).enumerate() {
                        let scale = blocks.scales[i * blocks.across + j / BLOCK].abs();
                        assert!((number - back).abs() <= steps * scale, "{bits:?}, {columns}: {number} and {back}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_mean_error_of_normal_numbers_is_known() {
        let matrix = matrix(64, 256, 0.02, &mut Random::new(5));
        for (bits, most) in [(Bits::Four, 0.085), (Bits::Eight, 0.006)] {
            let back = numbers(&Blocks::of(&matrix, bits), bits, 256);
            let square = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|v| f64::from(v * v)).sum::<f64>();
            let wrong = square(&mut matrix.values.iter().zip(&back).map(|(a, b)| a - b));
            let relative = (wrong / square(&mut matrix.values.iter().copied())).sqrt();
            assert!(relative < most && relative > most / 2.0, "{bits:?}: {relative}");
        }
    }

    #[test]
    fn panels_hold_the_same_codes_and_scales() {
        let random = &mut Random::new(7);
        for (rows, columns) in [(1, 1), (16, 32), (17, 33), (40, 100)] {
            let matrix = matrix(rows, columns, 1.0, random);
            for bits in [Bits::Four, Bits::Eight] {
                let blocks = Blocks::of(&matrix, bits);
                let Panels { bytes, count, panel_bytes } = blocks.panels(bits);
                let (unit, codes) = (64 * bits.count(), 64 * bits.count() * blocks.across);
                assert_eq!((count, panel_bytes), (rows.div_ceil(16), codes + 32 * blocks.across));
                assert_eq!(bytes.len(), count * panel_bytes);
                let back = numbers(&blocks, bits, columns);
                for (i, number) in back.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let panel = &bytes[row / 16 * panel_bytes..][..panel_bytes];
                    let (block, place) = (column / 32, 4 * (row % 16) + column % 4);
                    let four = column % 32 / 4;
                    let code = match bits {
                        Bits::Four => panel[block * unit + four % 4 * 64 + place] >> (four / 4 * 4) & 15,
                        Bits::Eight => panel[block * unit + four * 64 + place],
                    };
                    let scale = &panel[codes + 2 * (16 * block + row % 16)..][..2];
                    let scale = f32::from_le_bytes([0, 0, scale[0], scale[1]]);
                    let code = f32::from(i16::from(code) - (1 << (bits.count() - 1)));
                    assert_eq!((code * scale).to_bits(), number.to_bits(), "{bits:?}: row {row}, column {column}");
                }
            }
        }
    }

    #[test]
    fn zeros_and_the_smallest_numbers_stay_finite() {
        for value in [0.0, f32::from_bits(1), -f32::MIN_POSITIVE, 65504.0, -65504.0] {
            let matrix = Tensor::new("m", &[1, 40], vec![value; 40]);
            for bits in [Bits::Four, Bits::Eight] {
                let blocks = Blocks::of(&matrix, bits);
                let back = numbers(&blocks, bits, 40);
                assert!(back.iter().all(|b| (b - value).abs() <= value.abs()), "{value}: {:?}", back[0]);
                assert_eq!((blocks.scales.len(), blocks.codes.len()), (2, 64 * bits.count() / 8));
            }
        }
    }
}
