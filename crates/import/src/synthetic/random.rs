/// How far the state moves with each number.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A small generator of nearly normal numbers (SplitMix64, and sums of four uniform numbers). The same seed gives the same numbers everywhere.
#[derive(Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STRIDE);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Leaves out `count` numbers.
    pub(crate) fn skip(&mut self, count: usize) {
        self.state = self.state.wrapping_add(STRIDE.wrapping_mul(count as u64));
    }

    /// Mean 0, variance 1, between −√12 and √12.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
        let centred = (sum as f32 + 2.0) / 65536.0 - 2.0;
        centred * 3_f32.sqrt()
    }
}
