use serde::{Deserialize, Serialize};

/// Which earlier image positions an image position sees in one layer (Ramesh et al. 2021, appendix B.1). It sees all the text in each; text is causal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// All.
    Full,
    /// As many as the grid has columns, in raster order: the row so far and the end of the one above.
    Row,
    /// The same column.
    Column,
    /// A square around the position.
    Conv,
    /// The row so far, and no other (dalle-pytorch).
    AxialRow,
    /// A square with the position in its last corner (dalle-pytorch).
    Corner,
    /// A square around the position on a grid whose opposite edges meet (ruDALL-E's version 2).
    Torus,
}

impl Mask {
    /// The name in a configuration and in a graph.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Row => "row",
            Self::Column => "column",
            Self::Conv => "conv",
            Self::AxialRow => "axial_row",
            Self::Corner => "corner",
            Self::Torus => "torus",
        }
    }
}
