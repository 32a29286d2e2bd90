//! Seeds: what a caller does not choose is chosen at random.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A number that differs from call to call; not for secrets. The standard library's hasher keys are random.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::time::Instant::now())
}

/// The seeds of `candidates` candidates: `seed`, seed + 1, …, wrapping.
pub(crate) fn of(seed: Option<u64>, candidates: u32) -> Vec<u64> {
    let first = seed.unwrap_or_else(random);
    (0..u64::from(candidates)).map(|i| first.wrapping_add(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_count_up_and_wrap() {
        assert_eq!(of(Some(u64::MAX), 3), [u64::MAX, 0, 1]);
    }

    #[test]
    fn what_is_random_differs() {
        assert_ne!(random(), random());
    }
}
