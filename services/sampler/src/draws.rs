//! Counter-based draws: the number at a position depends on (seed, position) and on nothing else.

use std::array;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// Philox4x32-10: 128 random bits for a counter under a key (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    for round in 0..ROUNDS {
        let [k0, k1]: [u32; 2] = array::from_fn(|i| key[i].wrapping_add(WEYL[i].wrapping_mul(round)));
        let (high_a, low_a) = wide_product(MULTIPLIERS[0], a);
        let (high_c, low_c) = wide_product(MULTIPLIERS[1], c);
        [a, b, c, d] = [high_c ^ b ^ k0, low_c, high_a ^ d ^ k1, low_a];
    }
    [a, b, c, d]
}

/// A number in 0 ≤ u < 1, uniform over multiples of 2⁻⁵³: the draw for the token at `position` of the candidate with `seed`.
pub fn uniform(seed: u64, position: u32) -> f64 {
    let [low, high, ..] = philox([position, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = u64::from(high) << 32 | u64::from(low);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers() {
        // Random123's kat_vectors: zeros, ones, digits of π.
        let ones = u32::MAX;
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn draws_are_uniform_and_differ_by_seed_and_position() {
        let draws: Vec<f64> = (0..64u64).flat_map(|s| (0..1024).map(move |p| uniform(s << 30, p))).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let mut bins = [0u32; 16];
        for u in &draws {
            bins[(u * 16.0) as usize] += 1;
        }
        assert!(bins.iter().all(|n| (3840..4352).contains(n)), "{bins:?}");
        let mut bits: Vec<u64> = draws.iter().map(|u| u.to_bits()).collect();
        bits.sort_unstable();
        bits.dedup();
        assert_eq!(bits.len(), draws.len());
    }
}
