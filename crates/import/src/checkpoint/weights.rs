//! Which files of a folder hold weights, and which of them belong together.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::Error;

/// Endings of files with weights; of the same weights in two formats, the safer one comes first.
const ENDINGS: [&str; 6] = ["safetensors", "bin", "pt", "pth", "ckpt", "pkl"];
/// What follows the ending in the name of a list of shards.
const INDEX: &str = ".index.json";
const INDEX_BYTES: u64 = 16 << 20;
/// Between a shard's number and how many there are.
const OF: &str = "-of-";

/// One file, or the shards that one was cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// What an error names: the file, the list of shards, or the first of them.
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    /// Keys that a list of shards promises.
    pub(crate) keys: Vec<String>,
}

impl Weights {
    /// All weights in a folder: by format, then by name.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>, Error> {
        let io = |source| Error::Io { path: folder.into(), source };
        let (mut files, mut lists) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            match name.strip_suffix(INDEX) {
                Some(listed) if rank(Path::new(listed)).is_some() => lists.push(path),
                _ if rank(&path).is_some() => files.push(path),
                _ => {}
            }
        }
        let mut all = lists.iter().map(|path| Self::listed(path)).collect::<Result<Vec<_>, _>>()?;
        files.retain(|file| !all.iter().any(|w| w.files.contains(file)));
        files.sort();
        all.extend(together(files)?);
        all.sort_by_key(|w| (w.files.first().and_then(|file| rank(file)), w.path.clone()));
        Ok(all)
    }

    /// The weights that a file is, or that it belongs to.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.ends_with(INDEX) {
            return Self::listed(path);
        }
        let alone = Self { path: path.into(), files: vec![path.into()], keys: vec![] };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if shard(path).is_none() {
            return Ok(alone);
        }
        let all = Self::all(folder)?;
        let whole = all.into_iter().find(|w| w.files.iter().any(|file| file.file_name() == path.file_name()));
        Ok(whole.unwrap_or(alone))
    }

    /// Whether `config.json` beside it is its own, by the name.
    pub(crate) fn is_hugging_faces(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("model.safetensors") || name.starts_with("model-") || name.starts_with("pytorch_model")
    }

    /// The shards that a list names: `{"weight_map": {key: file}}`.
    fn listed(path: &Path) -> Result<Self, Error> {
        let index = super::json(path, INDEX_BYTES)?;
        let wrong = |found: String| Error::Field {
            path: path.into(),
            field: "weight_map".into(),
            expected: "names of files beside it, by key".into(),
            found,
        };
        let map = index["weight_map"].as_object().ok_or_else(|| wrong("none".into()))?;
        let mut files = Vec::new();
        for file in map.values() {
            let name = file.as_str().unwrap_or_default();
            if name.is_empty() || name.contains(['/', '\\']) || rank(Path::new(name)).is_none() {
                return Err(wrong(file.to_string()));
            }
            files.push(path.with_file_name(name));
        }
        files.sort();
        files.dedup();
        if files.is_empty() {
            return Err(wrong("none".into()));
        }
        Ok(Self { path: path.into(), files, keys: map.keys().cloned().collect() })
    }
}

/// The place of a file's ending among those of weights.
fn rank(path: &Path) -> Option<usize> {
    let ending = path.extension()?.to_str()?;
    ENDINGS.iter().position(|known| *known == ending)
}

/// What a shard is of, and how many there are: `model-00002-of-00005.safetensors`.
fn shard(path: &Path) -> Option<(String, usize)> {
    let (head, count) = path.file_stem()?.to_str()?.rsplit_once(OF)?;
    let (stem, number) = head.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(number) || !digits(count) {
        return None;
    }
    Some((format!("{stem}.{}", path.extension()?.to_str()?), count.parse().ok()?))
}

/// Puts shards without a list together by their names.
fn together(files: Vec<PathBuf>) -> Result<Vec<Weights>, Error> {
    let (mut all, mut shards) = (Vec::new(), BTreeMap::<(String, usize), Vec<PathBuf>>::new());
    for file in files {
        match shard(&file) {
            Some(whole) => shards.entry(whole).or_default().push(file),
            None => all.push(Weights { path: file.clone(), files: vec![file], keys: vec![] }),
        }
    }
    for ((_, count), files) in shards {
        if files.len() != count {
            let (expected, found) = (format!("{count} shards of this name"), files.len().to_string());
            return Err(Error::File { path: files[0].clone(), expected, found });
        }
        all.push(Weights { path: files[0].clone(), files, keys: vec![] });
    }
    Ok(all)
}

/// Adds what a shard has beside its tensors, if anything.
pub(super) fn beside(all: &mut Value, one: Value) {
    if all.as_object().is_none_or(serde_json::Map::is_empty) {
        *all = one;
    }
}
