//! What several tests need.

/// Numbers that look random and are the same every time (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal: the sum of twelve uniform numbers.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// Protobuf, written by hand: a field is a key (number · 8 + wire type), then a number or a length and bytes.
pub(crate) mod protobuf {
    pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub(crate) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        [&varint(field << 3 | 2), &varint(value.as_ref().len() as u64), value.as_ref()].concat()
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    /// An attribute.
    pub(crate) fn int(name: &str, value: i64) -> Vec<u8> {
        bytes(5, [bytes(1, name), number(3, value as u64), number(20, 2)].concat())
    }

    /// An input (`field` 11) or an output (12) of a graph; an axis without a length is free.
    pub(crate) fn value(field: u64, name: &str, element: u64, shape: &[Option<usize>]) -> Vec<u8> {
        let free = |i: usize| bytes(2, if shape.len() == 2 && i == 0 { "n".to_owned() } else { format!("{name}.{i}") });
        let dimension = |(i, n): (usize, &Option<usize>)| bytes(1, n.map_or_else(|| free(i), |n| number(1, n as u64)));
        let shape: Vec<u8> = shape.iter().enumerate().flat_map(dimension).collect();
        let tensor = bytes(1, [number(1, element), bytes(2, shape)].concat());
        bytes(field, [bytes(1, name), bytes(2, tensor)].concat())
    }
}
