//! The products against their definition in f64, every way of computing them against the others, and the operator against ONNX Runtime's.
#![allow(clippy::unwrap_used)]

use super::{
    matrix::{Matrix, Shape},
    path::Path,
    product::Rows,
    row::{self, Beside, Chunk, codes},
    *,
};
use crate::test::Random;

mod graph;

/// A matrix and rows of activations.
struct Case {
    shape: Shape,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Option<Vec<u8>>,
    bias: Option<Vec<f32>>,
    x: Vec<f32>,
}

impl Case {
    fn random(random: &mut Random, shape: Shape, rows: usize) -> Self {
        let Shape { inputs, outputs, .. } = shape;
        let bytes = |random: &mut Random, each: usize| (0..outputs * each).map(|_| random.next() as u8).collect();
        let floats = |random: &mut Random, count: usize| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
        Self {
            shape,
            codes: bytes(random, shape.row_bytes()),
            scales: floats(random, outputs * shape.blocks()),
            zeros: (random.below(2) == 0).then(|| bytes(random, shape.zero_bytes())),
            bias: (random.below(2) == 0).then(|| floats(random, outputs)),
            x: floats(random, rows * inputs),
        }
    }

    fn any(random: &mut Random, rows: usize) -> Self {
        let shape = Shape {
            inputs: 1 + random.below(520),
            outputs: 1 + random.below(40),
            bits: [Bits::Four, Bits::Eight][random.below(2)],
            block: [32, 64, 128, 256][random.below(4)],
        };
        Self::random(random, shape, rows)
    }

    fn matrix(&self) -> Matrix<'_> {
        let (zeros, bias) = (self.zeros.as_deref(), self.bias.as_deref());
        Matrix { shape: self.shape, codes: &self.codes, scales: &self.scales, zeros, bias }.check().unwrap()
    }

    /// The number at (output, input) of the matrix.
    fn weight(&self, output: usize, input: usize) -> f64 {
        let Shape { bits, block, .. } = self.shape;
        let code = |bytes: &[u8], each: usize, i: usize| match bits {
            Bits::Four => bytes[output * each + i / 2] >> (i % 2 * 4) & 15,
            Bits::Eight => bytes[output * each + i],
        };
        let zeros = self.zeros.as_ref();
        let zero = zeros.map_or(bits.zero(), |zeros| i32::from(code(zeros, self.shape.zero_bytes(), input / block)));
        let scale = self.scales[output * self.shape.blocks() + input / block];
        f64::from(i32::from(code(&self.codes, self.shape.row_bytes(), input)) - zero) * f64::from(scale)
    }

    /// The result of the first `rows` rows, computed `piece` outputs at a time.
    fn run(&self, path: Path, rows: usize, piece: usize) -> Vec<f32> {
        let Shape { inputs, outputs, bits, .. } = self.shape;
        let across = self.shape.chunks();
        let mut chunks = vec![Chunk::ZERO; rows * across];
        for (x, chunks) in self.x.chunks(inputs).zip(chunks.chunks_mut(across)) {
            path.quantize(bits, x, chunks);
        }
        let each = across * UNITS;
        let mut beside = vec![Beside::ZERO; path.groups(&self.matrix(), rows) * each];
        for (chunks, units) in chunks.chunks(LANES * across).zip(beside.chunks_mut(each)) {
            row::beside(chunks, across, units);
        }
        let y = vec![std::cell::Cell::new(f32::NAN); rows * outputs];
        for first in (0..outputs).step_by(piece) {
            let some = (first, outputs.min(first + piece));
            let rows = Rows { chunks: &chunks, across, beside: &beside };
            path.multiply(&self.matrix(), rows, some, |row, output, numbers: &[f32]| {
                let y = &y[row * outputs + output..][..numbers.len()];
                y.iter().zip(numbers).for_each(|(y, number)| y.set(*number));
            });
        }
        y.into_iter().map(std::cell::Cell::into_inner).collect()
    }

    /// For every number of the first row what it is in f64, what it would be with activations in 8 bits, and the most that these may lose, and that sums may.
    fn expected(&self) -> Vec<[f64; 4]> {
        let Shape { inputs, outputs, .. } = self.shape;
        let x = &self.x[..inputs];
        let units: Vec<_> = x
            .chunks(UNIT)
            .map(|unit| {
                let mut padded = [0.0; UNIT];
                padded[..unit.len()].copy_from_slice(unit);
                codes(&padded)
            })
            .collect();
        let output = |output: usize| {
            let bias = f64::from(self.bias.as_ref().map_or(0.0, |bias| bias[output]));
            let mut sums = [bias, bias, 0.0, bias.abs()];
            for (input, x) in x.iter().enumerate() {
                let (scale, codes) = &units[input / UNIT];
                let (weight, scale) = (self.weight(output, input), f64::from(*scale));
                let coded = weight * scale * f64::from(codes[input % UNIT]);
                let lost = weight.abs() * scale * 0.500_01;
                let terms = [weight * f64::from(*x), coded, lost, coded.abs()];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
            sums
        };
        (0..outputs).map(output).collect()
    }
}

#[test]
fn a_product_is_the_one_of_its_codes_and_no_further_from_the_exact_one_than_8_bits_allow() {
    let random = &mut Random(3);
    for _ in 0..200 {
        let case = Case::any(random, 1);
        let found = case.run(Path::here().next().unwrap(), 1, 64);
        for (found, [exact, coded, lost, all]) in found.iter().zip(case.expected()) {
            let found = f64::from(*found);
            assert!((found - coded).abs() <= 1e-6 * all, "{:?}: {found}, expected {coded}", case.shape);
            assert!((found - exact).abs() <= lost + 1e-6 * all, "{:?}: {found}, expected {exact}", case.shape);
        }
    }
}

#[test]
fn all_ways_and_numbers_of_rows_give_the_same_bits() {
    let random = &mut Random(5);
    for _ in 0..60 {
        let case = Case::any(random, 33);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let expected = bits(case.run(Path::here().last().unwrap(), 33, 1000));
        for path in Path::here() {
            for rows in 1..=33 {
                let piece = 4 * (1 + random.below(4));
                let found = bits(case.run(path, rows, piece));
                assert!(found == expected[..found.len()], "{path:?}, {rows} rows, {:?}", case.shape);
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for (bits, code) in [(Bits::Four, 0xff), (Bits::Four, 0), (Bits::Eight, 0xff), (Bits::Eight, 0)] {
        for zero in [None, Some(0), Some(0xff)] {
            for x in [1.0, -1.0] {
                let shape = Shape { inputs: 256, outputs: 4, bits, block: 32 };
                let mut case = Case::random(&mut Random(1), shape, 1);
                (case.bias, case.zeros) = (None, zero.map(|zero| vec![zero; 4 * shape.zero_bytes()]));
                case.x.fill(x);
                case.scales.fill(1.0);
                case.codes.fill(code);
                for path in Path::here() {
                    let found = case.run(path, 1, 4)[0];
                    let expected = 256.0 * case.weight(0, 0) * f64::from(x);
                    assert!(
                        (f64::from(found) - expected).abs() <= 1e-5 * expected.abs(),
                        "{path:?}: {found}, expected {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_stay_in_their_row_and_tiny_ones_are_zeros() {
    let shape = Shape { inputs: 70, outputs: 5, bits: Bits::Four, block: 32 };
    let mut case = Case::random(&mut Random(7), shape, 4);
    (case.x[71], case.x[150]) = (f32::NAN, f32::NEG_INFINITY);
    case.x[210..].fill(f32::from_bits(3));
    let bias = case.bias.clone().unwrap_or_else(|| vec![0.0; 5]);
    for path in Path::here() {
        let found = case.run(path, 4, 5);
        assert!(found[..5].iter().all(|y| y.is_finite()), "{path:?}: {found:?}");
        assert!(found[5..15].iter().all(|y| y.is_nan()), "{path:?}: {found:?}");
        assert_eq!(found[15..], bias, "{path:?}");
    }
}

#[test]
fn a_matrix_that_is_not_as_large_as_its_shape_is_refused() {
    let case = Case::random(&mut Random(9), Shape { inputs: 70, outputs: 5, bits: Bits::Four, block: 32 }, 1);
    let (matrix, short) = (Matrix { zeros: None, bias: None, ..case.matrix() }, [0; 4]);
    let refused = |matrix: Matrix<'_>| matrix.check().unwrap_err();
    assert_eq!(refused(Matrix { codes: &short, ..matrix }), "codes: expected 240 numbers, found 4");
    assert_eq!(refused(Matrix { scales: &case.scales[1..], ..matrix }), "scales: expected 15 numbers, found 14");
    assert_eq!(refused(Matrix { zeros: Some(&short), ..matrix }), "zero_points: expected 10 numbers, found 4");
    assert_eq!(refused(Matrix { bias: Some(&case.scales[..4]), ..matrix }), "bias: expected 5 numbers, found 4");
}
