//! Reads a checkpoint's files: tensors by key, each held against the shape that the configuration asks for, and small texts.

mod entry;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod hostile;
mod kind;
mod part;
mod pickle;
mod safetensors;
mod source;
mod tensors;
mod torch;
mod weights;
mod zip;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) use part::Part;
pub(crate) use tensors::Tensors;
use weights::Weights;

use crate::Error;

/// Some models keep their whole vocabulary there.
const CONFIG_BYTES: u64 = 16 << 20;

/// What somebody gave to be imported: a folder, or one file of weights with others beside it.
pub(crate) struct Checkpoint {
    path: PathBuf,
    folder: PathBuf,
    /// First what was given.
    weights: Vec<Weights>,
    /// How many those are; of a folder all.
    given: usize,
    config: Value,
}

impl Checkpoint {
    /// Looks at what is there; no file of weights is read yet. Of a folder, the configuration is.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if path.is_file() {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
            let given = Weights::of(path)?;
            // What else is wrong there does not concern the file.
            let mut others = Weights::all(&folder).unwrap_or_default();
            others.retain(|other| {
                !other.files.iter().any(|file| given.files.iter().any(|own| own.file_name() == file.file_name()))
            });
            let config = if given.is_hugging_faces() { configuration(&folder)? } else { Value::Null };
            return Ok(Self { path: path.into(), folder, given: 1, weights: [vec![given], others].concat(), config });
        }
        if !path.exists() {
            let expected = "a file or a folder; nothing is downloaded".into();
            return Err(Error::File { path: path.into(), expected, found: "none".into() });
        }
        let weights = Weights::all(path)?;
        let config = configuration(path)?;
        Ok(Self { path: path.into(), folder: path.into(), given: weights.len(), weights, config })
    }

    /// What was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`, or else the only file of YAML; null: there is none.
    pub(crate) fn config(&self) -> &Value {
        &self.config
    }

    /// The first of these files that is there.
    pub(crate) fn file(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().map(|name| self.folder.join(name)).find(|path| path.is_file())
    }

    /// Its parts, read one after another; of a file also those beside it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Result<Part, Error>> {
        self.weights.iter().map(Part::read)
    }

    /// Without what only lies beside a file.
    pub(crate) fn given(&self) -> impl Iterator<Item = Result<Part, Error>> {
        self.weights[..self.given].iter().map(Part::read)
    }

    /// The part that has all these keys.
    pub(crate) fn part_with(&self, keys: &[&str]) -> Result<Part, Error> {
        let has = |part: &Part| keys.iter().all(|key| part.entries().contains_key(*key));
        self.find(has, || format!("weights with {}", keys.join(", ")))
    }

    /// The part that is `right`: the file that was given, or the only one of its format. Else an error of one that cannot be read, or that `expected` is not there.
    pub(crate) fn find(&self, right: impl Fn(&Part) -> bool, expected: impl Fn() -> String) -> Result<Part, Error> {
        // What cannot be read may be of no use to the model: a state of its training, for example.
        let (mut failed, mut found) = (None, None::<Part>);
        for (i, part) in self.parts().enumerate() {
            match (part, &found) {
                (Ok(part), _) if !right(&part) => {}
                (Ok(part), None) if i < self.given && self.path.is_file() => return Ok(part),
                (Ok(part), None) => found = Some(part),
                // The same weights are often there in two formats.
                (Ok(part), Some(first)) if part.path().extension() != first.path().extension() => {}
                (Ok(part), Some(first)) => {
                    let (path, expected) =
                        (self.path.clone(), format!("one file with {}; give the one that is meant", expected()));
                    let name = |part: &Part| part.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                    return Err(Error::File { path, expected, found: format!("{} and {}", name(first), name(&part)) });
                }
                (Err(error), _) => failed = failed.or(Some(error)),
            }
        }
        let none = || Error::File { path: self.path.clone(), expected: expected(), found: "none".into() };
        found.ok_or_else(|| failed.unwrap_or_else(none))
    }
}

/// The configuration in a folder: `config.json`, or else the only file of YAML.
fn configuration(folder: &Path) -> Result<Value, Error> {
    let config = folder.join("config.json");
    if config.exists() {
        return json(&config, CONFIG_BYTES);
    }
    let files = fs::read_dir(folder).map_err(|source| Error::Io { path: folder.into(), source })?;
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let yaml: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml")).collect();
    let [path] = yaml.as_slice() else { return Ok(Value::Null) };
    serde_norway::from_str(&text(path, CONFIG_BYTES)?).map_err(|error| Error::File {
        path: path.clone(),
        expected: "YAML".into(),
        found: error.to_string(),
    })
}

/// A part of the configuration at `path` that is called `field` (empty: all of it), as what it should be.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, field: &str, value: &Value) -> Result<T, Error> {
    let read = |value: &Value| T::deserialize(value).map_err(|error| error.to_string());
    let Some(fields) = value.as_object() else {
        let (path, found) = (path.into(), shown(Some(value)));
        return Err(match field {
            "" => Error::File { path, expected: "the model's configuration".into(), found },
            _ => Error::Field { path, field: field.into(), expected: "the model's, as a mapping".into(), found },
        });
    };
    let reason = match read(value) {
        Ok(read) => return Ok(read),
        Err(reason) => reason,
    };
    // The one without which something else is wrong, or nothing.
    let wrong = fields.keys().find(|key| {
        let others: Map<String, Value> =
            fields.iter().filter(|(k, _)| k != key).map(|(k, v)| (k.clone(), v.clone())).collect();
        read(&Value::Object(others)).err().as_deref() != Some(&*reason)
    });
    let missing = reason.strip_prefix("missing field `").map(|rest| rest.trim_end_matches('`').to_owned());
    let name = missing.or_else(|| wrong.cloned()).unwrap_or_else(|| reason.clone());
    let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
    let expected = reason.rsplit_once(", expected ").map_or("a value", |(_, expected)| expected);
    let expected = if expected == "usize" { "a whole number, at least 0" } else { expected }.to_owned();
    Err(Error::Field { path: path.into(), field, expected, found: shown(fields.get(&name)) })
}

/// The beginning of a value, for an error.
fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".into(),
        Some(value) => format!("{:.64}", value.to_string()),
    }
}

/// A JSON file of at most `limit` bytes.
pub(crate) fn json(path: &Path, limit: u64) -> Result<Value, Error> {
    serde_json::from_str(&text(path, limit)?).map_err(|source| Error::Json { path: path.into(), source })
}

/// A text file of at most `limit` bytes.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, Error> {
    let bytes = size(path)?;
    if bytes > limit {
        let (expected, found) = (format!("at most {limit} bytes"), format!("{bytes}"));
        return Err(Error::File { path: path.into(), expected, found });
    }
    let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    kind::not_a_pointer(path, &bytes)?;
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
