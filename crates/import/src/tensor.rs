//! A tensor in memory and the little arithmetic that an import does on weights.

/// Values in row-major order, with the key that they had in the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    /// A tensor made here; `values` fill `shape`.
    pub(crate) fn new(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "the values fill the shape");
        Self { name: name.into(), shape: shape.into(), values }
    }

    /// Rows and the length of a row, with all axes but the first taken together.
    fn rows(&self) -> (usize, usize) {
        let rows = self.shape.first().copied().unwrap_or(1);
        (rows, self.values.len() / rows.max(1))
    }

    /// \[a, b\] → \[b, a\].
    pub(crate) fn transposed(&self) -> Self {
        let (rows, columns) = self.rows();
        let values =
            (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c)).map(|i| self.values[i]).collect();
        Self::new(self.name.clone(), &[columns, rows], values)
    }

    /// Some of its rows, with all axes but the first taken together.
    pub(crate) fn rows_of(&self, rows: std::ops::Range<usize>) -> Self {
        let (_, length) = self.rows();
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(self.shape[1..].iter().copied()).collect();
        let values = self.values[rows.start * length..rows.end * length].to_vec();
        Self::new(self.name.clone(), &shape, values)
    }

    /// Multiplies row i by `factors[i]`.
    pub(crate) fn scale_rows(&mut self, factors: &[f32]) {
        let (_, length) = self.rows();
        for (row, factor) in self.values.chunks_exact_mut(length).zip(factors) {
            row.iter_mut().for_each(|v| *v *= factor);
        }
    }

    /// Multiplies column j of every row by `factors[j]`.
    pub(crate) fn scale_columns(&mut self, factors: &[f32]) {
        for row in self.values.chunks_exact_mut(factors.len()) {
            row.iter_mut().zip(factors).for_each(|(v, factor)| *v *= factor);
        }
    }

    /// The product with a vector as long as a row, added up in double precision.
    pub(crate) fn times(&self, vector: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32]| row.iter().zip(vector).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        self.values.chunks_exact(vector.len()).map(dot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Tensor;

    fn matrix() -> Tensor {
        Tensor::new("m", &[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    }

    #[test]
    fn transposing_swaps_the_axes() {
        let t = matrix().transposed();
        assert_eq!((t.shape, t.values), (vec![3, 2], vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    }

    #[test]
    fn rows_and_columns_scale_and_multiply() {
        let mut m = matrix();
        m.scale_rows(&[1.0, 2.0]);
        m.scale_columns(&[1.0, 0.0, 10.0]);
        assert_eq!(m.values, [1.0, 0.0, 30.0, 8.0, 0.0, 120.0]);
        assert_eq!(matrix().times(&[1.0, 1.0, 1.0]), [6.0, 15.0]);
    }
}
