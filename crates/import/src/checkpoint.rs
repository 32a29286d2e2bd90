//! Reads a checkpoint's files: tensors by key, each held against the shape that the configuration asks for, and small texts.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::{Error, tensor::Tensor};

/// How many keys an error names.
const NAMED: usize = 5;

/// The tensors of one safetensors file that were not taken yet.
pub(crate) struct Tensors<'a> {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    /// Told the bytes of each tensor that was read.
    read: &'a mut dyn FnMut(u64),
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl<'a> Tensors<'a> {
    /// Maps the file; tensors are read when they are taken.
    pub(crate) fn open(path: &Path, read: &'a mut dyn FnMut(u64)) -> Result<Self, Error> {
        size(path)?;
        let io = |source| Error::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is only read, as bytes of which any value is valid; a checkpoint is not written to while it is imported.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let damaged = |source| Error::Safetensors { path: path.into(), source };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(damaged)?;
        let start = size_of::<u64>() + header;
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
            (name, Entry { dtype: info.dtype, shape: info.shape.clone(), bytes })
        };
        let entries = metadata.tensors().into_iter().map(entry).collect();
        Ok(Self { path: path.into(), map, entries, read })
    }

    /// The SHA-256 of the whole file in lower-case hex.
    pub(crate) fn digest(&self) -> String {
        easel_package::sha256_hex(&self.map)
    }

    /// The shape of a tensor with as many axes as `N`.
    pub(crate) fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N], Error> {
        let found = self.entries.get(name).map(|e| e.shape.clone());
        let axes = found.as_ref().and_then(|s| <[usize; N]>::try_from(s.as_slice()).ok());
        axes.filter(|s| !s.contains(&0)).ok_or_else(|| {
            let found = found.map_or("no such tensor".into(), |s| format!("shape {s:?}"));
            self.wrong(name, format!("{N} axes, none empty"), found)
        })
    }

    /// Whether there is such a tensor.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor that must be there, of this shape, of finite numbers.
    pub(crate) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let Some(entry) = self.entries.remove(name) else {
            return Err(self.wrong(name, format!("shape {shape:?}"), "no such tensor".into()));
        };
        if entry.shape != shape {
            return Err(self.wrong(name, format!("shape {shape:?}"), format!("shape {:?}", entry.shape)));
        }
        let bytes = &self.map[entry.bytes.clone()];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => elements(bytes, f32::from_le_bytes),
            Dtype::F16 => elements(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => elements(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            other => return Err(self.wrong(name, "float32, float16 or bfloat16".into(), format!("type {other:?}"))),
        };
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(self.wrong(name, "finite numbers".into(), format!("{value}")));
        }
        (self.read)(bytes.len() as u64);
        Ok(Tensor::new(name, shape, values))
    }

    /// A tensor that may be missing.
    pub(crate) fn take_optional(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>, Error> {
        if self.contains(name) { self.take(name, shape).map(Some) } else { Ok(None) }
    }

    /// Refuses what nobody took, but for keys that begin with `ignored`.
    pub(crate) fn finish(self, ignored: Option<&str>) -> Result<(), Error> {
        let left: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        let left: Vec<&str> = left.into_iter().filter(|k| ignored.is_none_or(|i| !k.starts_with(i))).collect();
        if left.is_empty() {
            return Ok(());
        }
        let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
        let named = left[..left.len().min(NAMED)].join(", ");
        Err(Error::File { path: self.path, expected: "no other tensors".into(), found: format!("{named}{more}") })
    }

    /// An error about one tensor.
    pub(crate) fn wrong(&self, name: &str, expected: String, found: String) -> Error {
        Error::Tensor { path: self.path.clone(), tensor: name.into(), expected, found }
    }
}

fn elements<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|b| convert(*b)).collect()
}

/// A text file of at most `limit` bytes.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, Error> {
    let bytes = size(path)?;
    if bytes > limit {
        let (expected, found) = (format!("at most {limit} bytes"), format!("{bytes}"));
        return Err(Error::File { path: path.into(), expected, found });
    }
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    String::from_utf8(bytes).map_err(|_| Error::File {
        path: path.into(),
        expected: "UTF-8 text".into(),
        found: "other bytes".into(),
    })
}

/// The size of a regular file.
pub(crate) fn size(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::Io { path: path.into(), source })?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Err(Error::File { path: path.into(), expected: "a regular file".into(), found: "another kind".into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use safetensors::{Dtype, tensor::TensorView};

    use super::{Error, Tensors};

    /// Reads `name` as two numbers from a file with three tensors.
    fn take(name: &str) -> Result<(Vec<f32>, u64), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let view = |dtype, bytes| TensorView::new(dtype, vec![2], bytes).unwrap();
        let tensors = [
            ("f16", view(Dtype::F16, &[0x00, 0x3c, 0x00, 0xc0])),
            ("bf16", view(Dtype::BF16, &[0x80, 0x3f, 0x00, 0xc0])),
            ("i16", view(Dtype::I16, &[1, 0, 2, 0])),
            ("nan", view(Dtype::F32, &[0, 0, 0xc0, 0x7f, 0, 0, 0, 0])),
        ];
        fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        let mut bytes = 0;
        let mut read = |n| bytes += n;
        let values = Tensors::open(&path, &mut read)?.take(name, &[2])?.values;
        Ok((values, bytes))
    }

    #[test]
    fn halves_are_widened_exactly() {
        assert_eq!(take("f16").unwrap(), (vec![1.0, -2.0], 4));
        assert_eq!(take("bf16").unwrap(), (vec![1.0, -2.0], 4));
    }

    #[test]
    fn integers_and_nan_are_refused() {
        let message = |name| take(name).unwrap_err().to_string();
        assert!(message("i16").ends_with("tensor i16: expected float32, float16 or bfloat16, found type I16"));
        assert!(message("nan").ends_with("tensor nan: expected finite numbers, found NaN"));
    }
}
