//! Weights that a formula gives, the same in `tests/families/make_fixtures.py`, and what other projects' packages made of them.

use std::{collections::BTreeMap, fs, path::Path};

use serde::de::DeserializeOwned;
use serde_json::json;

/// Tensors by their names.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// What is kept under a name.
pub fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// SplitMix64 from the key's FNV-1a hash: numbers from −1 to 1.
fn numbers(key: &str, count: usize) -> Vec<f64> {
    let hash = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn integers(key: &str, count: usize, bound: u32) -> Vec<u32> {
    numbers(key, count).into_iter().map(|v| ((v + 1.0) / 2.0 * f64::from(bound)) as u32).collect()
}

fn weight(key: &str, shape: &[usize]) -> Vec<f32> {
    let scale = |v: f64| match shape {
        [_, inner @ ..] if !inner.is_empty() => v * (1.6 * (3.0 / inner.iter().product::<usize>() as f64).sqrt()),
        _ if ["bias", ".b", "running_mean"].iter().any(|end| key.ends_with(end)) => v * 0.2,
        _ => 1.0 + v * 0.3,
    };
    numbers(key, shape.iter().product()).into_iter().map(|v| scale(v) as f32).collect()
}

/// A safetensors file of these weights.
pub fn write(path: &Path, shapes: &Shapes) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (key, shape) in shapes {
        let start = data.len();
        data.extend(weight(key, shape).into_iter().flat_map(f32::to_le_bytes));
        header.insert(key.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], &header, &data].concat()).unwrap();
}
