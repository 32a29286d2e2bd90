//! One tensor of a checkpoint: what it is, where it lies, and its numbers.

use std::{
    fmt, io,
    io::Read,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flate2::{Crc, read::DeflateDecoder};
use half::{bf16, f16};

use super::source::Source;

/// Numbers that a tensor may have beyond those that its storage has (by a stride of 0).
const REPEATED: u64 = 1 << 22;
/// Axes of a tensor.
const AXES: usize = 64;
/// Bytes converted at once; a multiple of every number's size.
const PIECE: usize = 1 << 16;

/// Reads numbers of one type from little-endian bytes.
type Widen = fn(&[u8], &mut Vec<f32>);

/// The type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4m3,
    F8E5m2,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of a number.
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3 | Self::F8E5m2 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// How floating-point numbers of this type are read from little-endian bytes; none for integers.
    fn widen(self) -> Option<Widen> {
        fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, convert: impl Fn([u8; N]) -> f32) {
            values.extend(bytes.as_chunks::<N>().0.iter().map(|b| convert(*b)));
        }
        Some(match self {
            Self::F64 => |b, v| each(b, v, |n| f64::from_le_bytes(n) as f32),
            Self::F32 => |b, v| each(b, v, f32::from_le_bytes),
            Self::F16 => |b, v| each(b, v, |n| f16::from_le_bytes(n).to_f32()),
            Self::Bf16 => |b, v| each(b, v, |n| bf16::from_le_bytes(n).to_f32()),
            Self::F8E5m2 => |b, v| each(b, v, |[n]| f16::from_le_bytes([0, n]).to_f32()),
            Self::F8E4m3 => |b, v| each(b, v, |[n]| e4m3(n)),
            _ => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_uppercase())
    }
}

/// An 8-bit float of 4 bits of exponent and 3 of mantissa, without infinities (float8_e4m3fn).
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2_f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7),
    };
    if byte >> 7 == 1 { -size } else { size }
}

/// Numbers of one type, one after another, that one or several tensors are views of.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) source: Arc<Source>,
    /// Where the bytes begin, and how many they are as they lie.
    pub(crate) start: u64,
    pub(crate) stored: u64,
    /// Bytes of the numbers; more than `stored` where they are deflated.
    pub(crate) bytes: u64,
    pub(crate) deflated: bool,
    /// What the file says is their CRC-32.
    pub(crate) checksum: Option<u32>,
    /// Whether the checksum was found right.
    pub(crate) checked: AtomicBool,
}

impl Storage {
    /// Bytes that lie in `source` as they are.
    pub(crate) fn plain(source: &Arc<Source>, start: u64, bytes: u64) -> Self {
        let (source, checked) = (source.clone(), AtomicBool::new(false));
        Self { source, start, stored: bytes, bytes, deflated: false, checksum: None, checked }
    }

    /// Hands the bytes in `range` to `sink`, in pieces of whole numbers; the first time, all are held against the checksum.
    pub(super) fn stream(&self, range: Range<u64>, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let check = self.checksum.filter(|_| !self.checked.load(Ordering::Relaxed));
        let whole = check.is_some() || self.deflated;
        let (mut at, end) = if whole { (0, self.bytes) } else { (range.start, range.end) };
        let skip = if self.deflated { 0 } else { at };
        let raw = self.source.cursor(self.start + skip, self.start + self.stored);
        let mut reader: Box<dyn Read> = if self.deflated { Box::new(DeflateDecoder::new(raw)) } else { Box::new(raw) };
        let (mut piece, mut crc) = (vec![0; PIECE], Crc::new());
        while at < end {
            let piece = &mut piece[..(end - at).min(PIECE as u64) as usize];
            reader.read_exact(piece)?;
            if check.is_some() {
                crc.update(piece);
            }
            let clip = |bound: u64| bound.clamp(at, at + piece.len() as u64) - at;
            let (from, to) = (clip(range.start) as usize, clip(range.end) as usize);
            sink(&piece[from..to]);
            at += piece.len() as u64;
        }
        match check {
            Some(expected) if expected != crc.sum() => {
                Err(io::Error::other("the checksum is wrong: the file is damaged"))
            }
            Some(_) => {
                self.checked.store(true, Ordering::Relaxed);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// A tensor that was not read yet.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    storage: Arc<Storage>,
    /// Its first number's place among those of the storage.
    offset: u64,
    /// Numbers from one index of an axis to the next; none: in row-major order without gaps.
    strides: Option<Vec<u64>>,
    /// Numbers of the storage from the first to the last.
    span: u64,
}

/// `a · b · …`, if that can be counted.
pub(crate) fn product(shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |product, n| product.checked_mul(*n as u64))
}

impl Entry {
    /// A view of a storage; none when it reaches beyond it, or has absurdly many numbers.
    pub(crate) fn new(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Option<Vec<u64>>,
        (storage, offset): (Arc<Storage>, u64),
    ) -> Option<Self> {
        let count = product(&shape)?;
        let strides = strides.filter(|s| !row_major(&shape, s));
        let span = match &strides {
            _ if shape.len() > AXES => return None,
            _ if count == 0 => 0,
            None => count,
            Some(strides) if strides.len() != shape.len() => return None,
            Some(strides) => {
                let reach = shape.iter().zip(strides).map(|(n, stride)| (*n as u64 - 1).checked_mul(*stride));
                reach.into_iter().try_fold(1_u64, |sum, reach| sum.checked_add(reach?))?
            }
        };
        let there = storage.bytes / dtype.size();
        if offset.checked_add(span)? > there || count > there.max(REPEATED) {
            return None;
        }
        Some(Self { dtype, shape, storage, offset, strides, span })
    }

    /// Bytes of its numbers.
    pub(crate) fn bytes(&self) -> u64 {
        product(&self.shape).unwrap_or(0) * self.dtype.size()
    }

    /// Its numbers in row-major order; none when they are integers.
    pub(crate) fn values(&self) -> Option<io::Result<Vec<f32>>> {
        let widen = self.dtype.widen()?;
        let size = self.dtype.size();
        let mut values = Vec::with_capacity(self.span as usize);
        let read =
            self.storage.stream(self.offset * size..(self.offset + self.span) * size, &mut |b| widen(b, &mut values));
        Some(read.map(|()| match &self.strides {
            Some(strides) if !values.is_empty() => {
                let mut gathered = Vec::with_capacity(product(&self.shape).unwrap_or(0) as usize);
                gather(&values, &self.shape, strides, 0, &mut gathered);
                gathered
            }
            _ => values,
        }))
    }

    /// Whether one of its numbers, of whatever type, is anything but 0; none when it has no such number, or gaps between them.
    pub(crate) fn is_set(&self, at: u64) -> Option<io::Result<bool>> {
        if self.strides.is_some() || at >= self.span {
            return None;
        }
        let (size, mut set) = (self.dtype.size(), false);
        let start = (self.offset + at) * size;
        let mut look = |bytes: &[u8]| set |= bytes.iter().any(|byte| *byte != 0);
        Some(self.storage.stream(start..start + size, &mut look).map(|()| set))
    }
}

/// Whether strides are those of row-major order without gaps; those of axes with one index do not count.
fn row_major(shape: &[usize], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.len() == strides.len()
        && shape.iter().zip(strides).rev().all(|(n, stride)| {
            let fits = *n == 1 || *stride == expected;
            expected *= *n as u64;
            fits
        })
}

/// Appends the numbers at all indices of `shape`, the last axis fastest, counted from `at`.
fn gather(values: &[f32], shape: &[usize], strides: &[u64], at: u64, out: &mut Vec<f32>) {
    match (shape, strides) {
        ([n, shape @ ..], [stride, strides @ ..]) => {
            (0..*n as u64).for_each(|i| gather(values, shape, strides, at + i * stride, out));
        }
        _ => out.push(values[at as usize]),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_are_those_of_the_format() {
        let values = [0x00, 0x01, 0x08, 0x38, 0x7e, 0xb8, 0x7f].map(e4m3);
        assert_eq!(values[..6], [0.0, 0.001_953_125, 0.015_625, 1.0, 448.0, -1.0]);
        assert!(values[6].is_nan());
    }

    #[test]
    fn views_may_be_transposed_repeated_or_offset_but_not_reach_beyond() {
        let bytes = (0_u8..6).flat_map(|n| f32::from(n).to_le_bytes()).collect();
        let storage = Arc::new(Storage::plain(&Arc::new(Source::Bytes(bytes)), 0, 24));
        let view = |shape: &[usize], strides: &[u64], offset| {
            let entry = Entry::new(Dtype::F32, shape.into(), Some(strides.into()), (storage.clone(), offset));
            entry.map(|e| e.values().unwrap().unwrap())
        };
        assert_eq!(view(&[2, 3], &[3, 1], 0), Some(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        assert_eq!(view(&[3, 2], &[1, 3], 0), Some(vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        assert_eq!(view(&[2, 2], &[0, 2], 3), Some(vec![3.0, 5.0, 3.0, 5.0]));
        assert_eq!(view(&[0], &[1], 6), Some(vec![]));
        assert_eq!(view(&[], &[], 5), Some(vec![5.0]));
        assert_eq!(view(&[2, 3], &[3, 1], 1), None);
        assert_eq!(view(&[2], &[u64::MAX], 0), None);
        assert_eq!(view(&[1 << 40, 1 << 40], &[0, 0], 0), None);
        assert_eq!(view(&[1 << 30], &[0], 0), None);
    }

    #[test]
    fn a_number_is_set_unless_it_is_0() {
        let storage = Arc::new(Storage::plain(&Arc::new(Source::Bytes(vec![0, 1, 0, 0, 0, 2, 0, 0])), 0, 8));
        let set = |dtype, shape: &[usize], strides: Option<Vec<u64>>, offset, at| {
            let entry = Entry::new(dtype, shape.into(), strides, (storage.clone(), offset)).unwrap();
            entry.is_set(at).map(Result::unwrap)
        };
        let flags: Vec<_> = (0..8).map(|at| set(Dtype::Bool, &[2, 4], None, 0, at) == Some(true)).collect();
        assert_eq!(flags, [false, true, false, false, false, true, false, false]);
        assert_eq!(set(Dtype::F16, &[3], None, 1, 1), Some(true));
        assert_eq!([3, u64::MAX - 1].map(|at| set(Dtype::F16, &[3], None, 1, at)), [None; 2]);
        assert_eq!(set(Dtype::Bool, &[4, 2], Some(vec![1, 4]), 0, 1), None);
    }
}
