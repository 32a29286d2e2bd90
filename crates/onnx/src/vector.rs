//! Sixteen numbers at a time: in registers of the machine, or wherever the compiler puts them. All give the same bits, since every sum has the same order
//! and no multiplication is fused with an addition.

/// Sums run in this many lanes, and storage is padded to it: sixteen f32 are a cache line, one AVX-512 register, or two of AVX2.
pub(crate) const LANES: usize = 16;

pub(crate) type Lanes = [f32; LANES];

/// What a key or a value is stored in.
pub(crate) trait Number: Copy + Default + Send + Sync {
    /// The nearest one.
    fn of(x: f32) -> Self;
    fn load<V: Vector>(x: &[Self; LANES]) -> V;
}

impl Number for f32 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn load<V: Vector>(x: &[Self; LANES]) -> V {
        V::load(x)
    }
}

/// bf16: the upper half of an f32.
impl Number for u16 {
    /// Ties go to the even one.
    #[inline(always)]
    fn of(x: f32) -> Self {
        let bits = x.to_bits();
        if x.is_nan() {
            return (bits >> 16) as u16 | 0x40;
        }
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    }

    #[inline(always)]
    fn load<V: Vector>(x: &[Self; LANES]) -> V {
        V::widen(x)
    }
}

/// [`LANES`] numbers.
pub(crate) trait Vector: Copy {
    /// How many times four of them, and as many again to spare, fit into the registers.
    const WIDE: usize;

    fn splat(x: f32) -> Self;
    fn load(x: &Lanes) -> Self;
    /// Of bf16.
    fn widen(x: &[u16; LANES]) -> Self;
    fn store(self, to: &mut Lanes);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The sum of each one's lanes: halves are added to halves, three times, and the last two to each other.
    fn totals(four: [Self; 4]) -> [f32; 4];
    /// Asks for memory that will be read soon, if it is there.
    fn prefetch(address: *const u8);
}

impl Vector for Lanes {
    const WIDE: usize = 1;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(x: &Lanes) -> Self {
        *x
    }

    #[inline(always)]
    fn widen(x: &[u16; LANES]) -> Self {
        x.map(|x| f32::from_bits(u32::from(x) << 16))
    }

    #[inline(always)]
    fn store(self, to: &mut Lanes) {
        *to = self;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }

    #[inline(always)]
    fn totals(four: [Self; 4]) -> [f32; 4] {
        four.map(total)
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}
}

/// The sum of the lanes, in the order of [`Vector::totals`].
#[inline(always)]
pub(crate) fn total(mut lanes: Lanes) -> f32 {
    for half in [8, 4, 2] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0] + lanes[1]
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! Values of these types are made only by functions that [`crate::attend`] enters where the machine has the instructions: that is what makes the intrinsics
    //! safe. Loads and stores are of arrays as wide as the register.

    use std::arch::x86_64::*;

    use super::{LANES, Lanes, Vector};

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    /// The sums of four times eight lanes.
    #[inline(always)]
    fn totals([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        // SAFETY: see the module.
        unsafe {
            let (a, b) = (halves(a), halves(b));
            let (c, d) = (halves(c), halves(d));
            let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (low_2, high_2) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            let even = _mm_add_ps(_mm_movelh_ps(low, low_2), _mm_movelh_ps(high, high_2));
            let odd = _mm_add_ps(_mm_movehl_ps(low_2, low), _mm_movehl_ps(high_2, high));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), _mm_add_ps(even, odd));
            sums
        }
    }

    #[inline(always)]
    pub(crate) fn prefetch(address: *const u8) {
        // SAFETY: asks for nothing that may not be there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn halves(x: __m256) -> __m128 {
        // SAFETY: see the module.
        unsafe { _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x)) }
    }

    #[inline(always)]
    fn widen(x: &[u16]) -> __m256 {
        let x: &[u16; 8] = x.try_into().expect("eight numbers");
        // SAFETY: see the module.
        unsafe {
            let x = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x))
        }
    }

    impl Vector for Avx2 {
        const WIDE: usize = 1;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see the module.
            let x = unsafe { _mm256_set1_ps(x) };
            Self(x, x)
        }

        #[inline(always)]
        fn load(x: &Lanes) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
        }

        #[inline(always)]
        fn widen(x: &[u16; LANES]) -> Self {
            Self(widen(&x[..8]), widen(&x[8..]))
        }

        #[inline(always)]
        fn store(self, to: &mut Lanes) {
            // SAFETY: see the module.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.1);
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }

        #[inline(always)]
        fn totals([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            // SAFETY: see the module.
            let sum = |x: Self| unsafe { _mm256_add_ps(x.0, x.1) };
            totals([sum(a), sum(b), sum(c), sum(d)])
        }

        #[inline(always)]
        fn prefetch(address: *const u8) {
            prefetch(address);
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    impl Vector for Avx512 {
        const WIDE: usize = 4;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm512_set1_ps(x)) }
        }

        #[inline(always)]
        fn load(x: &Lanes) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm512_loadu_ps(x.as_ptr())) }
        }

        #[inline(always)]
        fn widen(x: &[u16; LANES]) -> Self {
            // SAFETY: see the module.
            unsafe {
                let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)))
            }
        }

        #[inline(always)]
        fn store(self, to: &mut Lanes) {
            // SAFETY: see the module.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see the module.
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }

        #[inline(always)]
        fn totals([a, b, c, d]: [Self; 4]) -> [f32; 4] {
            // SAFETY: see the module.
            let sum = |x: Self| unsafe {
                let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x.0));
                _mm256_add_ps(_mm512_castps512_ps256(x.0), _mm256_castpd_ps(high))
            };
            totals([sum(a), sum(b), sum(c), sum(d)])
        }

        #[inline(always)]
        fn prefetch(address: *const u8) {
            prefetch(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_the_nearest_and_ties_go_to_the_even_one() {
        let back = |x: f32| f32::from_bits(u32::from(u16::of(x)) << 16);
        for exact in [0.0, -0.0, 1.0, -1.5, f32::INFINITY, f32::NEG_INFINITY, 2_f32.powi(-130)] {
            assert_eq!(back(exact).to_bits(), exact.to_bits());
        }
        let unit = 2_f32.powi(-7);
        assert_eq!(back(1.0 + 0.5 * unit), 1.0);
        assert_eq!(back(1.0 + 1.5 * unit), 1.0 + 2.0 * unit);
        assert_eq!(back(1.0 + 0.51 * unit), 1.0 + unit);
        assert_eq!(back(-1.0 - 1.49 * unit), -1.0 - unit);
        assert_eq!(back(f32::MAX), f32::INFINITY);
        assert!(back(f32::NAN).is_nan() && back(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
