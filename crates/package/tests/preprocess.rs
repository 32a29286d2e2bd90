//! The preprocessing equals Pillow's to the bit, and bad pictures are refused. `preprocess/golden.py` made the digests.
#![allow(clippy::unwrap_used)]

use easel_package::{Error, Preprocess, Size, sha256_hex};

const GOLDEN: &str = include_str!("preprocess/golden.txt");

fn to(width: u32, height: u32) -> Preprocess {
    Preprocess { size: Size { width, height } }
}

/// The picture that golden.py makes.
fn picture(kind: &str, width: u64, height: u64) -> Vec<u8> {
    let ramp = |i: u64| ((i / 3 % width) * 7 + (i / 3 / width) * 13 + (i % 3) * 50) as u8;
    let noise = |i: u64| {
        let v = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((v ^ (v >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
    };
    let byte = |i| match kind {
        "ramp" => ramp(i),
        "noise" => noise(i),
        "edges" => u8::from(noise(i) >= 128) * 255,
        _ => panic!("no kind {kind}"),
    };
    (0..width * height * 3).map(byte).collect()
}

#[test]
fn equals_pillow_to_the_bit() {
    let mut cases = 0;
    for line in GOLDEN.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [kind, numbers @ .., digest] = &fields[..] else { panic!("{line}") };
        let n: Vec<u32> = numbers.iter().map(|n| n.parse().unwrap()).collect();
        let seen = to(n[2], n[3]).apply(n[0], n[1], &picture(kind, n[0].into(), n[1].into())).unwrap();
        assert_eq!(seen.len(), (n[2] * n[3] * 3) as usize, "{line}");
        assert_eq!(sha256_hex(&seen), *digest, "{line}");
        cases += 1;
    }
    assert_eq!(cases, 210);
}

#[test]
fn a_picture_that_fits_is_left_alone() {
    let pixels = picture("noise", 20, 10);
    assert_eq!(to(20, 10).apply(20, 10, &pixels).unwrap(), pixels);
}

#[test]
fn work_is_bounded_by_the_input_where_the_scaled_picture_would_be_huge() {
    // Scaled whole, this would have 4096 × 67 million pixels.
    let seen = to(4096, 4096).apply(1, 16384, &[200; 16384 * 3]).unwrap();
    assert!(seen.iter().all(|byte| *byte == 200));
}

#[test]
fn wrong_sizes_are_refused() {
    for (width, height, bytes) in [(0, 1, 0), (1, 0, 0), (2, 2, 11), (2, 2, 13), (u32::MAX, u32::MAX, 3)] {
        let error = to(8, 8).apply(width, height, &vec![0; bytes]).unwrap_err();
        assert!(matches!(error, Error::Picture { .. }), "{width} × {height}, {bytes} bytes: {error}");
    }
    let error = to(8, 8).apply(2, 2, &[0; 11]).unwrap_err();
    assert_eq!(error.to_string(), "picture: expected 12 bytes for 2 × 2 pixels, found 11 bytes");
}
