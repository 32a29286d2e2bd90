//! Tensors by key, each held against the shape that the configuration asks for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Part, entry::Entry};
use crate::{Error, tensor::Tensor};

/// How many keys an error names.
const NAMED: usize = 5;

/// The tensors of a part of a checkpoint that were not taken yet.
pub(crate) struct Tensors<'a> {
    path: PathBuf,
    digest: String,
    entries: BTreeMap<String, Entry>,
    /// Told the bytes of each tensor that was read.
    read: &'a mut dyn FnMut(u64),
}

impl<'a> Tensors<'a> {
    /// The tensors of one file or of a set of shards, of any format that is known; they are read when they are taken.
    pub(crate) fn open(path: &Path, read: &'a mut dyn FnMut(u64)) -> Result<Self, Error> {
        let part = Part::open(path)?;
        let digest = part.digest(&mut || read(0))?;
        Ok(Self { digest, ..part.tensors("", read) })
    }

    /// Those of `entries`, which lie in the file at `path`.
    pub(super) fn new(path: &Path, entries: BTreeMap<String, Entry>, read: &'a mut dyn FnMut(u64)) -> Self {
        Self { path: path.into(), digest: String::new(), entries, read }
    }

    /// The SHA-256 of the whole file in lower-case hex.
    pub(crate) fn digest(&self) -> String {
        self.digest.clone()
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

    /// The shape of a tensor with any number of axes, none empty; none: there is no such tensor.
    pub(crate) fn dimensions(&self, name: &str) -> Option<Vec<usize>> {
        self.entries.get(name).map(|entry| entry.shape.clone()).filter(|shape| !shape.is_empty() && !shape.contains(&0))
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
        let Some(values) = entry.values() else {
            return Err(self.wrong(name, "floating-point numbers".into(), format!("type {}", entry.dtype)));
        };
        let values = values.map_err(|error| self.wrong(name, "numbers that can be read".into(), error.to_string()))?;
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(self.wrong(name, "finite numbers".into(), format!("{value}")));
        }
        (self.read)(entry.bytes());
        Ok(Tensor::new(name, shape, values))
    }

    /// A tensor that may be missing.
    pub(crate) fn take_optional(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>, Error> {
        if self.contains(name) { self.take(name, shape).map(Some) } else { Ok(None) }
    }

    /// Leaves out what the import has no use for.
    pub(crate) fn ignore(&mut self, unused: impl Fn(&str) -> bool) {
        self.entries.retain(|key, _| !unused(key));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use safetensors::{Dtype, tensor::TensorView};

    use super::{Error, Tensors};

    /// Reads `name` as two numbers from a file with a few tensors.
    fn take(name: &str) -> Result<(Vec<f32>, u64), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let view = |dtype, bytes| TensorView::new(dtype, vec![2], bytes).unwrap();
        let tensors = [
            ("f64", view(Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0])),
            ("f16", view(Dtype::F16, &[0x00, 0x3c, 0x00, 0xc0])),
            ("bf16", view(Dtype::BF16, &[0x80, 0x3f, 0x00, 0xc0])),
            ("f8", view(Dtype::F8_E4M3, &[0x38, 0xc0])),
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
    fn floats_of_other_sizes_become_those_of_32_bits() {
        for (name, bytes) in [("f64", 16), ("f16", 4), ("bf16", 4), ("f8", 2)] {
            assert_eq!(take(name).unwrap(), (vec![1.0, -2.0], bytes), "{name}");
        }
    }

    #[test]
    fn integers_and_nan_are_refused() {
        let message = |name| take(name).unwrap_err().to_string();
        assert!(message("i16").ends_with("tensor i16: expected floating-point numbers, found type I16"));
        assert!(message("nan").ends_with("tensor nan: expected finite numbers, found NaN"));
    }
}
