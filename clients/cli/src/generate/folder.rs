//! The files of a generation.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use easel_client::{Outcome, Picture};
use serde_json::Value;

use super::{Record, sheet};
use crate::Error;

/// The contact sheet.
pub(super) const SHEET: &str = "sheet.png";
/// The record of everything.
pub(super) const RECORD: &str = "generation.json";

/// Which files a generation has.
pub(super) struct Written {
    dir: PathBuf,
    /// Names of the pictures' files, best first: "01-seed42-0.312.png".
    pub(super) pictures: Vec<String>,
}

impl Written {
    /// Makes the folder, and takes away the pictures of an earlier generation in it.
    pub(super) fn prepare(dir: &Path, outcome: &Outcome) -> Result<Self, Error> {
        make(dir)?;
        for stale in pictures_of(&dir.join(RECORD)) {
            // What cannot be removed is either gone already or about to be written over.
            let _ = fs::remove_file(dir.join(stale));
        }
        let pictures = outcome.pictures.iter().enumerate().map(|(i, picture)| name(i + 1, picture)).collect();
        Ok(Self { dir: dir.to_owned(), pictures })
    }

    /// Writes the pictures, the sheet, and last the record.
    pub(super) fn save(&self, outcome: &Outcome, record: &Record<'_>) -> Result<(), Error> {
        for (picture, name) in outcome.pictures.iter().zip(&self.pictures) {
            picture.image.save(self.dir.join(name))?;
        }
        let path = self.dir.join(SHEET);
        let sheet = sheet::draw(&outcome.pictures)?;
        let written = sheet.save_with_format(&path, image::ImageFormat::Png);
        written.map_err(|source| Error::Picture { what: format!("cannot write {}", path.display()), source })?;
        let path = self.dir.join(RECORD);
        let text = serde_json::to_string_pretty(record)?;
        fs::write(&path, text + "\n").map_err(|source| Error::Write { path, source })
    }
}

/// Makes the folder, if need be.
pub(super) fn make(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })
}

fn name(rank: usize, picture: &Picture) -> String {
    let score = picture.clip_score.map_or(String::new(), |score| format!("-{score:.3}"));
    format!("{rank:02}-seed{}{score}.{}", picture.seed, picture.image.extension())
}

/// The pictures that the record at `path` tells of, if there is one: plain names alone.
fn pictures_of(path: &Path) -> Vec<String> {
    let record = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let pictures = record.as_ref().and_then(|record| record["pictures"].as_array()).into_iter().flatten();
    let names = pictures.filter_map(|picture| picture["file"].as_str());
    names.filter(|name| Path::new(name).file_name() == Some(OsStr::new(name))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_plain_names_are_taken_from_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECORD);
        assert!(pictures_of(&path).is_empty());
        fs::write(&path, r#"{"pictures": [{"file": "01-seed1.png"}, {"file": "../a"}, {"file": "/b"}, {}]}"#).unwrap();
        assert_eq!(pictures_of(&path), ["01-seed1.png"]);
        fs::write(&path, "no JSON").unwrap();
        assert!(pictures_of(&path).is_empty());
    }
}
