//! Where a graph's constants lie: in its file, or, for models near protobuf's limit of 2 GiB, in a file beside it.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    onnx::{DataLocation, StringStringEntryProto, TensorProto},
};

/// Constants below this size stay in the graph.
const SMALL_BYTES: usize = 4096;
/// Constants start at whole pages, so that a runtime can map them.
const PAGE_BYTES: u64 = 4096;

pub(crate) enum Storage {
    Inline,
    Beside(Beside),
}

/// A file of raw constants.
pub(crate) struct Beside {
    path: PathBuf,
    /// The file's name, as the graph refers to it.
    location: String,
    file: BufWriter<File>,
    offset: u64,
}

impl Storage {
    /// For the graph `graph`, whose weights take about `bytes`: in its file while they are at most `inline_limit_bytes`.
    pub(crate) fn choose(graph: &Path, bytes: u64, inline_limit_bytes: u64) -> Result<Self, Error> {
        if bytes <= inline_limit_bytes {
            return Ok(Self::Inline);
        }
        let name = graph.file_name().expect("a graph has a file name").to_string_lossy();
        let location = format!("{name}.data");
        let path = graph.with_file_name(&location);
        let file = File::create(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(Self::Beside(Beside { path, location, file: BufWriter::with_capacity(1 << 20, file), offset: 0 }))
    }

    /// Stores a tensor's bytes.
    pub(crate) fn put(&mut self, tensor: &mut TensorProto, bytes: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Beside(beside) if bytes.len() >= SMALL_BYTES => beside.put(tensor, &bytes),
            _ => {
                tensor.raw_data = Some(bytes);
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        match self {
            Self::Inline => Ok(()),
            Self::Beside(mut beside) => beside.file.flush().map_err(|source| Error::Io { path: beside.path, source }),
        }
    }
}

impl Beside {
    fn put(&mut self, tensor: &mut TensorProto, bytes: &[u8]) -> Result<(), Error> {
        let start = self.offset.next_multiple_of(PAGE_BYTES);
        let gap = vec![0; (start - self.offset) as usize];
        let written = self.file.write_all(&gap).and_then(|()| self.file.write_all(bytes));
        written.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        self.offset = start + bytes.len() as u64;
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", self.location.clone()),
            entry("offset", start.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.set_data_location(DataLocation::External);
        Ok(())
    }
}
