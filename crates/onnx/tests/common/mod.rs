//! Packages of random weights, and numbers that look random.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod formula;

use easel_import::{ImportOptions, Mask, synthetic};
use easel_onnx::{Device, Options};
use easel_package::{Manifest, Package};
use tempfile::TempDir;

/// A package in a folder of its own.
pub struct Fixture {
    pub package: Package,
    dir: TempDir,
}

impl Fixture {
    pub fn new(geometry: &synthetic::Geometry) -> Self {
        Self::import(geometry, &ImportOptions::default())
    }

    pub fn import(geometry: &synthetic::Geometry, options: &ImportOptions) -> Self {
        let dir = TempDir::new().unwrap();
        let (checkpoint, package) = (dir.path().join("checkpoint"), dir.path().join("package"));
        synthetic::checkpoint(&checkpoint, geometry, 1).unwrap();
        let package = easel_import::import(&checkpoint, &package, options, &mut |_| ()).unwrap();
        Self { package, dir }
    }

    /// Changes the manifest, or the files, and seals the package again, so that only what the engine checks can be wrong.
    pub fn with(mut self, change: impl FnOnce(&std::path::Path, &mut Manifest)) -> Self {
        let mut manifest = self.package.manifest().clone();
        change(self.package.dir(), &mut manifest);
        self.package = Package::seal(self.package.dir(), manifest).unwrap();
        self
    }
}

/// One layer of each mask, widths that fill no register.
pub fn tiny() -> synthetic::Geometry {
    synthetic::Geometry::default()
}

/// About the size of the scenes model.
pub fn middle() -> synthetic::Geometry {
    synthetic::Geometry {
        text_length: 32,
        grid: 8,
        levels: vec![8, 8, 8, 8],
        width: 256,
        heads: 4,
        masks: vec![Mask::Row, Mask::Column, Mask::Conv, Mask::Full],
        conv_kernel: 11,
        ..tiny()
    }
}

pub fn cpu(threads: usize) -> Options {
    Options { device: Device::Cpu, threads, ..Options::default() }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
