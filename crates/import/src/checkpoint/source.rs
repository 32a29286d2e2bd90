//! Bytes that are read from where they lie, piece by piece.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use crate::Error;

/// Bytes read at once.
const PIECE: usize = 1 << 16;

/// A file, or bytes that stand for one. Reading never maps it: a file that shrinks meanwhile is an error.
#[derive(Debug)]
pub(crate) enum Source {
    /// A regular file and its size.
    File(File, u64),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

impl Source {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let bytes = super::size(path)?;
        let file = File::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(Self::File(file, bytes))
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(_, bytes) => *bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file, _) => {
                let mut file = file;
                file.seek(SeekFrom::Start(offset))?;
                file.read_exact(buffer)
            }
            Self::Bytes(bytes) => {
                let from = usize::try_from(offset).ok().and_then(|o| bytes.get(o..));
                let found = from.and_then(|b| b.get(..buffer.len()));
                buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// The bytes from `offset` on, `length` of them, which a caller has bounded.
    pub(crate) fn bytes(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        if offset.checked_add(length).is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads from `offset` on, to `end` at most.
    pub(crate) fn cursor(&self, offset: u64, end: u64) -> Cursor<'_> {
        let end = end.min(self.len());
        Cursor { source: self, next: offset.min(end), end, piece: Vec::new(), used: 0 }
    }
}

/// Reads a part of a source from front to back through a small buffer.
pub(crate) struct Cursor<'a> {
    source: &'a Source,
    /// Where the next piece begins.
    next: u64,
    end: u64,
    piece: Vec<u8>,
    used: usize,
}

impl Cursor<'_> {
    /// Where the next byte that is read lies.
    pub(crate) fn position(&self) -> u64 {
        self.next - (self.piece.len() - self.used) as u64
    }

    /// Bytes to the end.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.position()
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            let length = (self.end - self.next).min(PIECE as u64) as usize;
            self.piece.resize(length, 0);
            self.source.read_at(self.next, &mut self.piece)?;
            (self.next, self.used) = (self.next + length as u64, 0);
        }
        let count = buffer.len().min(self.piece.len() - self.used);
        buffer[..count].copy_from_slice(&self.piece[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}
