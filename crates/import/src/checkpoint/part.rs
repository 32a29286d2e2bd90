//! One set of weights: a file, or the shards that it was cut into.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Tensors,
    entry::Entry,
    kind::Kind,
    safetensors,
    source::Source,
    torch,
    weights::{self, Weights},
};
use crate::Error;

/// The tensors of a file or a set of shards, and what lies beside them.
pub(crate) struct Part {
    path: PathBuf,
    files: Vec<Arc<Source>>,
    entries: BTreeMap<String, Entry>,
    beside: Value,
}

impl Part {
    /// Reads what is in a file; of its tensors, only where they are. A shard stands for all.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        super::size(path)?;
        Self::read(&Weights::of(path)?)
    }

    /// Reads one file or a set of shards.
    pub(super) fn read(weights: &Weights) -> Result<Self, Error> {
        let path = weights.path.clone();
        let mut part = Self { path, files: Vec::new(), entries: BTreeMap::new(), beside: Value::Null };
        for file in &weights.files {
            let source = Arc::new(Source::open(file)?);
            let (entries, beside) = match Kind::of(file, &source)? {
                Kind::Safetensors => (safetensors::read(file, &source)?, Value::Null),
                Kind::Torch => torch::read(file, &source)?,
            };
            for (tensor, entry) in entries {
                if part.entries.contains_key(&tensor) {
                    let (expected, found) = ("a tensor of one shard only".into(), "one of another".into());
                    return Err(Error::Tensor { path: file.clone(), tensor, expected, found });
                }
                part.entries.insert(tensor, entry);
            }
            weights::beside(&mut part.beside, beside);
            part.files.push(source);
        }
        match weights.keys.iter().find(|key| !part.entries.contains_key(*key)) {
            None => Ok(part),
            Some(key) => {
                let (expected, found) = ("the tensor that the list of shards names".into(), "no such tensor".into());
                Err(Error::Tensor { path: part.path, tensor: key.clone(), expected, found })
            }
        }
    }

    /// The file, or the list of the shards.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor's key, shape and type.
    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// What a PyTorch file holds beside the tensors (`hparams`, `vae_params`, …; for a whole module, its attributes); null: nothing.
    pub(crate) fn beside(&self) -> &Value {
        &self.beside
    }

    /// Bytes of its tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().map(Entry::bytes).sum()
    }

    /// The SHA-256 of the file in lower-case hex; of several files, one after another. `tick` is called every few moments, so that a caller can give up.
    pub(crate) fn digest(&self, tick: &mut dyn FnMut()) -> Result<String, Error> {
        let mut hash = Sha256::new();
        let mut feed = |source: &Source| -> io::Result<()> {
            let (mut cursor, mut piece) = (source.cursor(0, source.len()), vec![0; 1 << 20]);
            while let n @ 1.. = cursor.read(&mut piece)? {
                hash.update(&piece[..n]);
                tick();
            }
            Ok(())
        };
        self.files.iter().try_for_each(|f| feed(f)).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        }))
    }

    /// The tensors whose keys begin with `prefix`, under what follows it. `read` is told the bytes of each that is taken.
    pub(crate) fn tensors<'a>(&self, prefix: &str, read: &'a mut dyn FnMut(u64)) -> Tensors<'a> {
        let under = self.entries.iter().filter_map(|(k, e)| Some((k.strip_prefix(prefix)?.to_owned(), e.clone())));
        Tensors::new(&self.path, under.collect(), read)
    }
}
