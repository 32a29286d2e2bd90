//! PyTorch's files: the zip archives of `torch.save` and TorchScript, and the format before them.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    path::Path,
    sync::Arc,
};

use serde_json::Value;

use super::{
    entry::{Entry, Storage},
    pickle::{self, Id, Node, Stored, Values},
    source::{Cursor, Source},
    zip::{self, Archive},
};
use crate::Error;

/// What the old format begins with: a pickle of the number 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 15] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// Its version, in a pickle of its own.
const PROTOCOL: u64 = 1001;
const PICKLE: &str = "data.pkl";
const ORDER_BYTES: u64 = 16;
const KEY: usize = 1024;

/// Storages of a file, by name.
type Storages = HashMap<String, Arc<Storage>>;

/// The tensors of the file, and what lies beside them.
pub(super) fn read(path: &Path, source: &Arc<Source>) -> Result<(BTreeMap<String, Entry>, Value), Error> {
    parts(source).map_err(|reason| Error::Torch { path: path.into(), reason })
}

/// Whether the file begins as the format before zip archives does.
pub(super) fn begins(source: &Source) -> std::io::Result<bool> {
    let mut head = Vec::new();
    source.cursor(0, source.len()).take(MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == MAGIC)
}

fn parts(source: &Arc<Source>) -> Result<(BTreeMap<String, Entry>, Value), String> {
    let text = |error: std::io::Error| error.to_string();
    if zip::begins(source).map_err(text)? {
        return zipped(&Archive::open(source).map_err(text)?);
    }
    if !begins(source).map_err(text)? {
        return Err("neither a zip archive nor the format before it".into());
    }
    legacy(source, &mut source.cursor(MAGIC.len() as u64, source.len()))
}

/// An archive: a pickle, and each storage as a member of its own.
fn zipped(archive: &Archive) -> Result<(BTreeMap<String, Entry>, Value), String> {
    let pickles = archive.names().filter(|n| n.strip_suffix(PICKLE).is_some_and(|p| p.is_empty() || p.ends_with('/')));
    let name = pickles.min_by_key(|name| name.len()).ok_or("a zip archive without data.pkl")?;
    let folder = name.strip_suffix(PICKLE).unwrap_or_default().to_owned();
    let order = format!("{folder}byteorder");
    if archive.names().any(|name| name == order) {
        let order = archive.read(&order, ORDER_BYTES).map_err(|error| error.to_string())?;
        if order != b"little" {
            return Err("its numbers are not in little-endian order".into());
        }
    }
    let (values, whole) = archive.pickle(name)?;
    let mut storages = Storages::new();
    let mut find = |stored: &Stored| match storages.get(&*stored.key) {
        Some(storage) => Ok(storage.clone()),
        None => {
            let storage =
                archive.storage(&format!("{folder}data/{}", stored.key)).map_err(|error| error.to_string())?;
            let storage = Arc::new(storage);
            storages.insert(stored.key.to_string(), storage.clone());
            Ok(storage)
        }
    };
    entries(&values, whole, &mut find)
}

/// The old format: pickles of a number, a version, the machine, the whole and the names of the storages, and then these.
fn legacy(source: &Arc<Source>, cursor: &mut Cursor<'_>) -> Result<(BTreeMap<String, Entry>, Value), String> {
    let (values, version) = pickle::load(cursor)?;
    if values.int(version) != Some(PROTOCOL) {
        return Err(format!("not version {PROTOCOL} of the format before zip archives"));
    }
    let (values, machine) = pickle::load(cursor)?;
    let little = values.item(machine, "little_endian").map(|id| values.get(id));
    if !matches!(little, Some(Node::Bool(true))) {
        return Err("its numbers are not in little-endian order".into());
    }
    let (values, whole) = pickle::load(cursor)?;
    let (names, list) = pickle::load(cursor)?;
    let sizes = number_sizes(&values);
    let (mut storages, mut at) = (Storages::new(), cursor.position());
    for name in names.list(list).ok_or("no list of storages")? {
        let name = names.text(*name).filter(|name| name.len() <= KEY).ok_or("a storage without a name")?;
        let size = sizes.get(name).ok_or_else(|| format!("a storage that no tensor has, {name}"))?;
        let mut count = [0; 8];
        source.cursor(at, source.len()).read_exact(&mut count).map_err(|error| format!("storage {name}: {error}"))?;
        at += count.len() as u64;
        let bytes = u64::from_le_bytes(count).checked_mul(*size).filter(|bytes| *bytes <= source.len() - at);
        let bytes = bytes.ok_or_else(|| format!("storage {name} reaches beyond the end of the file"))?;
        storages.insert(name.to_owned(), Arc::new(Storage::plain(source, at, bytes)));
        at += bytes;
    }
    let mut find = |stored: &Stored| {
        storages.get(&*stored.key).cloned().ok_or_else(|| format!("storage {:.64} is not in the file", stored.key))
    };
    entries(&values, whole, &mut find)
}

/// Bytes of a number of each storage that a pickle names.
fn number_sizes(values: &Values) -> HashMap<&str, u64> {
    let stored = values.all().filter_map(|node| if let Node::Storage(stored) = node { Some(stored) } else { None });
    stored.map(|stored| (&*stored.key, stored.dtype.map_or(1, |dtype| dtype.size()))).collect()
}

/// Tensors as views of storages that were found.
fn entries(
    values: &Values,
    whole: Id,
    find: &mut dyn FnMut(&Stored) -> Result<Arc<Storage>, String>,
) -> Result<(BTreeMap<String, Entry>, Value), String> {
    let (tensors, beside) = pickle::split(values, whole)?;
    let mut entries = BTreeMap::new();
    for (key, id) in tensors {
        let Node::Tensor(view) = values.get(id) else { continue };
        let Node::Storage(stored) = values.get(view.storage) else { continue };
        let storage = find(stored).map_err(|reason| format!("tensor {key}: {reason}"))?;
        let offset = stored.offset.checked_add(view.offset).ok_or("an offset that makes no sense")?;
        let reach = stored.count.checked_mul(stored.dtype.map_or(1, |dtype| dtype.size()));
        if reach.is_none_or(|bytes| bytes > storage.bytes) {
            return Err(format!("tensor {key}: its storage has {} bytes, not {} numbers", storage.bytes, stored.count));
        }
        let entry = Entry::new(view.dtype, view.shape.clone(), Some(view.strides.clone()), (storage, offset));
        let entry = entry.ok_or_else(|| format!("tensor {key}: shape {:?} reaches beyond its storage", view.shape))?;
        entries.insert(key, entry);
    }
    Ok((entries, beside))
}

impl Archive {
    fn pickle(&self, name: &str) -> Result<(Values, Id), String> {
        let bytes = self.read(name, pickle::BYTES).map_err(|error| error.to_string())?;
        let source = Source::Bytes(bytes);
        pickle::load(&mut source.cursor(0, source.len()))
    }
}
