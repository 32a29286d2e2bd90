//! Sizes of the transformers with random weights.

use std::str::FromStr;

use easel_import::synthetic;

/// A transformer of DALL·E's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    width: u32,
    layers: usize,
}

impl FromStr for Geometry {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (width, layers) = match name {
            "S" => (384, 8),
            "M" => (1024, 24),
            "L" => (2048, 24),
            _ => {
                let sizes = name.split_once('x').and_then(|(w, l)| Some((w.parse().ok()?, l.parse().ok()?)));
                let known = |(width, layers): &(u32, usize)| {
                    width % 64 == 0 && (64..=16384).contains(width) && (1..=1024).contains(layers)
                };
                sizes.filter(known).ok_or("expected S, M, L or WIDTHxLAYERS with a multiple of 64 for the width")?
            }
        };
        Ok(Self { width, layers })
    }
}

impl Geometry {
    /// A checkpoint with its transformer; the name tells a grid that is not DALL·E's.
    pub(super) fn checkpoint(&self, grid: u32) -> synthetic::Geometry {
        let suffix = if grid == 32 { String::new() } else { format!("-grid{grid}") };
        let name = format!("random-{}x{}{suffix}", self.width, self.layers);
        synthetic::Geometry { name, ..synthetic::Geometry::dalle(self.width, self.layers, grid) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn geometries_have_names_or_sizes() {
        assert_eq!("M".parse(), Ok(Geometry { width: 1024, layers: 24 }));
        assert_eq!("128x3".parse(), Ok(Geometry { width: 128, layers: 3 }));
        for wrong in ["", "XL", "100x2", "64x0", "64", "0x1", "-64x1"] {
            assert!(wrong.parse::<Geometry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn packages_of_another_grid_have_another_name() {
        let geometry: Geometry = "S".parse().unwrap();
        assert_eq!(geometry.checkpoint(32).name, "random-384x8");
        assert_eq!(geometry.checkpoint(16).name, "random-384x8-grid16");
    }
}
