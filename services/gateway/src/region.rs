//! Which part of a picture is kept: cells of the grid in raster order.

use easel_proto::v1::image_prompt::Region;
use easel_proto::v1::{GivenTokens, Grid};

/// The cells that an image prompt gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    positions: Vec<u32>,
    prefix: bool,
}

/// Why a region cannot be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The field within the image prompt.
    pub(crate) field: &'static str,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl Kept {
    /// What is kept of a picture on `grid` when `region` says what to draw anew.
    pub(crate) fn new(region: Option<Region>, grid: Grid) -> Result<Self, Refusal> {
        let refuse = |field, reason| Err(Refusal { field, reason });
        let (row, column) = match region {
            None => return refuse("region", "expected keep_rows or redraw_from".to_owned()),
            Some(Region::KeepRows(rows)) if rows == 0 || rows >= grid.rows => {
                return refuse("keep_rows", format!("expected 1 to {}, found {rows}", grid.rows.saturating_sub(1)));
            }
            Some(Region::KeepRows(rows)) => (rows, 0),
            Some(Region::RedrawFrom(cell)) if cell.row >= grid.rows || cell.column >= grid.columns => {
                let reason = format!(
                    "expected a cell of {} rows × {} columns, found row {}, column {}",
                    grid.rows, grid.columns, cell.row, cell.column
                );
                return refuse("redraw_from", reason);
            }
            Some(Region::RedrawFrom(cell)) if cell.row == 0 && cell.column == 0 => {
                return refuse("redraw_from", "row 0, column 0 leaves nothing of the picture".to_owned());
            }
            Some(Region::RedrawFrom(cell)) => (cell.row, cell.column),
        };
        let drawn = |position: &u32| position / grid.columns >= row && position % grid.columns >= column;
        let positions = (0..grid.rows * grid.columns).filter(|position| !drawn(position)).collect();
        Ok(Self { positions, prefix: column == 0 })
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    /// The tokens that are given, out of those of the whole picture. `tokens` has one for each cell of the grid.
    pub(crate) fn given(&self, tokens: &[u32]) -> GivenTokens {
        let kept = self.positions.iter().map(|&position| tokens[position as usize]).collect();
        let positions = if self.prefix { Vec::new() } else { self.positions.clone() };
        GivenTokens { positions, tokens: kept }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use easel_proto::v1::Cell;

    use super::*;

    const GRID: Grid = Grid { rows: 3, columns: 4 };

    fn redraw(row: u32, column: u32) -> Option<Region> {
        Some(Region::RedrawFrom(Cell { row, column }))
    }

    #[test]
    fn kept_rows_are_a_prefix() {
        let tokens: Vec<u32> = (100..112).collect();
        let kept = Kept::new(Some(Region::KeepRows(2)), GRID).unwrap();
        let expected = GivenTokens { positions: Vec::new(), tokens: (100..108).collect() };
        assert_eq!(kept.given(&tokens), expected);
        assert_eq!(Kept::new(redraw(2, 0), GRID).unwrap(), kept);
        assert_eq!(kept.len(), 8);
    }

    #[test]
    fn a_rectangle_in_the_corner_is_drawn_anew() {
        let tokens: Vec<u32> = (100..112).collect();
        let given = Kept::new(redraw(1, 2), GRID).unwrap().given(&tokens);
        assert_eq!(given.positions, [0, 1, 2, 3, 4, 5, 8, 9]);
        assert_eq!(given.tokens, [100, 101, 102, 103, 104, 105, 108, 109]);
        let left = Kept::new(redraw(0, 3), GRID).unwrap().given(&tokens);
        assert_eq!(left.positions, [0, 1, 2, 4, 5, 6, 8, 9, 10]);
    }

    #[test]
    fn something_is_kept_and_something_drawn() {
        let field = |region| Kept::new(region, GRID).unwrap_err().field;
        assert_eq!(field(None), "region");
        assert_eq!(field(Some(Region::KeepRows(0))), "keep_rows");
        assert_eq!(field(Some(Region::KeepRows(3))), "keep_rows");
        assert_eq!(field(redraw(0, 0)), "redraw_from");
        assert_eq!(field(redraw(3, 0)), "redraw_from");
        assert_eq!(field(redraw(0, u32::MAX)), "redraw_from");
    }
}
