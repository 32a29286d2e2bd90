//! What a file of weights is: by how it begins, whatever it is called.

use std::{
    io::{self, Read as _},
    path::Path,
};

use super::{source::Source, torch, zip};
use crate::Error;

const SAFETENSORS: &str = "safetensors";
/// What Git LFS leaves in the place of a large file that was not fetched.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The format of a file with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Torch,
}

impl Kind {
    /// That of the file at `path`; one that begins like neither is what its name says.
    pub(super) fn of(path: &Path, source: &Source) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.into(), source };
        let mut head = Vec::new();
        source.cursor(0, source.len()).take(POINTER.len() as u64).read_to_end(&mut head).map_err(io)?;
        not_a_pointer(path, &head)?;
        if is_torch(source).map_err(io)? {
            return Ok(Self::Torch);
        }
        let named = path.extension().is_some_and(|ending| ending == SAFETENSORS);
        Ok(if named || has_header(&head, source.len()) { Self::Safetensors } else { Self::Torch })
    }
}

fn is_torch(source: &Source) -> io::Result<bool> {
    Ok(zip::begins(source)? || torch::begins(source)?)
}

/// The length of a safetensors header that fits into the file, and its first byte.
fn has_header(head: &[u8], bytes: u64) -> bool {
    let [length @ .., b'{'] = &head[..head.len().min(9)] else { return false };
    <[u8; 8]>::try_from(length).is_ok_and(|length| u64::from_le_bytes(length) < bytes)
}

/// Refuses a file that begins with `head` where that says that the file itself was not fetched.
pub(super) fn not_a_pointer(path: &Path, head: &[u8]) -> Result<(), Error> {
    if !head.starts_with(POINTER) {
        return Ok(());
    }
    let (expected, found) =
        ("the file itself".into(), "what Git LFS puts in its place; git lfs pull fetches it".into());
    Err(Error::File { path: path.into(), expected, found })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::Part;
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)).unwrap()
    }

    fn keys(name: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let part = Part::open(&path).map_err(|error| error.to_string())?;
        Ok(part.entries().keys().cloned().collect())
    }

    #[test]
    fn a_file_with_another_ending_is_read_as_what_it_is() {
        for (name, endings) in [
            ("state.pt", ["safetensors", "bin"]),
            ("state.old.pt", ["safetensors", "ckpt"]),
            ("shards/safetensors/model-00001-of-00002.safetensors", ["pt", "bin"]),
        ] {
            let expected = keys(&format!("x.{}", name.rsplit_once('.').unwrap().1), &fixture(name)).unwrap();
            assert!(!expected.is_empty());
            for ending in endings {
                assert_eq!(keys(&format!("x.{ending}"), &fixture(name)), Ok(expected.clone()), "{name} as .{ending}");
            }
        }
    }

    #[test]
    fn what_begins_like_nothing_is_what_its_name_says() {
        let page = b"<!DOCTYPE html><html><head><title>404</title>";
        assert!(keys("x.safetensors", page).unwrap_err().contains("not a safetensors file"));
        assert!(keys("x.bin", page).unwrap_err().contains("not a usable PyTorch file"));
        assert!(keys("x.safetensors", b"").unwrap_err().contains("not a safetensors file"));
        assert!(keys("x.bin", b"").unwrap_err().contains("not a usable PyTorch file"));
    }

    #[test]
    fn what_was_not_fetched_is_told() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4294967296\n";
        for name in ["x.safetensors", "x.bin"] {
            let error = keys(name, pointer).unwrap_err();
            assert!(
                error.ends_with(
                    "expected the file itself, found what Git LFS puts in its place; git lfs pull fetches it"
                ),
                "{error}"
            );
        }
    }
}
