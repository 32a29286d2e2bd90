//! The order of a picture's tokens in a sequence: row by row, with those behind each row that are not drawn.

use std::{ops::Range, sync::Arc};

/// Where the cells of the grid lie among the image tokens of a sequence, which are counted in steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    cells: usize,
    columns: usize,
    row_end: Arc<[u32]>,
}

impl Course {
    /// A grid of `cells` in rows of `columns`, each followed by the tokens `row_end`.
    pub fn new(cells: usize, columns: usize, row_end: &[u32]) -> Self {
        Self { cells, columns: columns.max(1), row_end: row_end.into() }
    }

    fn row(&self) -> usize {
        self.columns + self.row_end.len()
    }

    /// Image tokens of a whole sequence.
    pub fn steps(&self) -> usize {
        self.step(self.cells)
    }

    /// The step of a cell.
    pub fn step(&self, cell: usize) -> usize {
        cell + cell / self.columns * self.row_end.len()
    }

    /// The cell of a step; none: a token behind a row.
    pub fn cell(&self, step: usize) -> Option<usize> {
        let (row, column) = (step / self.row(), step % self.row());
        (column < self.columns).then(|| row * self.columns + column)
    }

    /// How many steps back the cell above is, or in the first row the one to the left.
    pub fn above(&self, step: usize) -> usize {
        if step < self.row() { 1 } else { self.row() }
    }

    /// How many cells these steps are.
    pub fn cells_in(&self, steps: Range<usize>) -> usize {
        let before = |step: usize| step / self.row() * self.columns + (step % self.row()).min(self.columns);
        before(steps.end) - before(steps.start)
    }

    /// For each step the token that is not drawn: `given` for its (cell, token), or behind a row.
    pub fn forced(&self, given: &[(u32, u32)]) -> Vec<Option<u32>> {
        let behind = |step: usize| self.row_end.get((step % self.row()).wrapping_sub(self.columns)).copied();
        let mut forced: Vec<Option<u32>> = (0..self.steps()).map(behind).collect();
        for &(cell, token) in given {
            forced[self.step(cell as usize)] = Some(token);
        }
        forced
    }
}

#[cfg(test)]
mod tests {
    use super::Course;

    #[test]
    fn a_plain_grid_is_its_own_course() {
        let course = Course::new(6, 3, &[]);
        assert_eq!((course.steps(), course.step(4), course.cell(4), course.cells_in(1..5)), (6, 4, Some(4), 4));
        assert_eq!(course.forced(&[(1, 9)]), [None, Some(9), None, None, None, None]);
    }

    #[test]
    fn tokens_behind_a_row_are_no_cells() {
        let course = Course::new(4, 2, &[7, 8]);
        assert_eq!(course.steps(), 8);
        assert_eq!(
            (0..8).map(|step| course.cell(step)).collect::<Vec<_>>(),
            [Some(0), Some(1), None, None, Some(2), Some(3), None, None]
        );
        assert!((0..4).all(|cell| course.cell(course.step(cell)) == Some(cell)));
        assert_eq!([0..3, 0..5, 2..4, 3..8].map(|steps| course.cells_in(steps)), [2, 3, 0, 2]);
        assert_eq!(course.forced(&[(2, 1)]), [None, None, Some(7), Some(8), Some(1), None, Some(7), Some(8)]);
    }
}
