//! The header of a safetensors file.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use safetensors::{Dtype as Stored, SafeTensorError, tensor::Metadata};

use super::{
    entry::{Dtype, Entry, Storage},
    source::Source,
};
use crate::Error;

/// Bytes of a header at most: a hundred thousand tensors.
const HEADER: u64 = 16 << 20;
/// The number in front of the header.
const LENGTH: u64 = size_of::<u64>() as u64;

/// The tensors of the file.
pub(super) fn read(path: &Path, source: &Arc<Source>) -> Result<BTreeMap<String, Entry>, Error> {
    let (start, metadata) = header(source).map_err(|source| Error::Safetensors { path: path.into(), source })?;
    let (whole, end) = (source.len(), start + metadata.data_len() as u64);
    if whole != end {
        let (expected, found) = (format!("{end} bytes, as its header says"), format!("{whole}"));
        return Err(Error::File { path: path.into(), expected, found });
    }
    let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let wrong = |expected: &str, found: String| Error::Tensor {
            path: path.into(),
            tensor: name.clone(),
            expected: expected.into(),
            found,
        };
        let dtype = dtype(info.dtype).ok_or_else(|| wrong("numbers of 8 … 64 bits", format!("{:?}", info.dtype)))?;
        let (from, to) = info.data_offsets;
        let storage = Arc::new(Storage::plain(source, start + from as u64, (to - from) as u64));
        let entry = Entry::new(dtype, info.shape.clone(), None, (storage, 0));
        let entry = entry.ok_or_else(|| wrong("a shape that its bytes fill", format!("{:?}", info.shape)))?;
        Ok((name, entry))
    };
    metadata.tensors().into_iter().map(entry).collect()
}

/// Where the tensors begin, and what they are.
fn header(source: &Source) -> Result<(u64, Metadata), SafeTensorError> {
    let io = |error: io::Error| SafeTensorError::IoError(error);
    let whole = source.len();
    if whole < LENGTH {
        return Err(SafeTensorError::HeaderTooSmall);
    }
    let mut length = [0; LENGTH as usize];
    source.read_at(0, &mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER {
        return Err(SafeTensorError::HeaderTooLarge);
    }
    if length > whole - LENGTH {
        return Err(SafeTensorError::InvalidHeaderLength);
    }
    let text = source.bytes(LENGTH, length).map_err(io)?;
    let text = std::str::from_utf8(&text).map_err(SafeTensorError::InvalidHeader)?;
    let metadata: Metadata = serde_json::from_str(text).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    Ok((LENGTH + length, metadata))
}

fn dtype(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::F8_E4M3 => Dtype::F8E4m3,
        Stored::F8_E5M2 => Dtype::F8E5m2,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U64 => Dtype::U64,
        Stored::U32 => Dtype::U32,
        Stored::U16 => Dtype::U16,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}
