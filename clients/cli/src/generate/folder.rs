//! The files of a generation.

use std::ffi::OsStr;
use std::fs;
use std::io;
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
        fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })?;
        ours(dir)?;
        for stale in pictures_of(&dir.join(RECORD)) {
            // What cannot be removed is either gone already or about to be written over.
            let _ = fs::remove_file(dir.join(stale));
        }
        let pictures = outcome.pictures.iter().enumerate();
        let pictures =
            pictures.map(|(i, picture)| name(i + 1, picture, outcome.ranking.score(picture.candidate))).collect();
        Ok(Self { dir: dir.to_owned(), pictures })
    }

    /// Writes the pictures, the sheet, and last the record.
    pub(super) fn save(&self, outcome: &Outcome, record: &Record<'_>) -> Result<(), Error> {
        for (picture, name) in outcome.pictures.iter().zip(&self.pictures) {
            picture.image.save(self.dir.join(name))?;
        }
        let path = self.dir.join(SHEET);
        let sheet = sheet::draw(&record.prompt, &outcome.pictures, &outcome.ranking)?;
        let written = sheet.save_with_format(&path, image::ImageFormat::Png);
        written.map_err(|source| Error::Picture { what: format!("cannot write {}", path.display()), source })?;
        let path = self.dir.join(RECORD);
        let text = serde_json::to_string_pretty(record)?;
        fs::write(&path, text + "\n").map_err(|source| Error::Write { path, source })
    }
}

/// A folder that can be written to. What was made for it goes again when it is dropped, unless there is something in it by then.
pub(super) struct Reserved {
    /// The folders that were made, the innermost first.
    made: Vec<PathBuf>,
}

impl Reserved {
    /// Makes the folder, if need be, and tries whether files can be made in it, and whether a record in it may be replaced.
    pub(super) fn new(dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Write { path: dir.to_owned(), source };
        let missing = dir.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let reserved = Self { made: missing.map(Path::to_owned).collect() };
        fs::create_dir_all(dir).map_err(failed)?;
        ours(dir)?;
        let probe = dir.join(format!(".easel-{}", std::process::id()));
        fs::File::create_new(&probe).and_then(|_| fs::remove_file(&probe)).map_err(failed)?;
        Ok(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Fails, as it should, from the first folder on that is not empty.
        let _ = self.made.iter().try_for_each(fs::remove_dir);
    }
}

/// An error when the folder has a file of the record's name that is no record.
fn ours(dir: &Path) -> Result<(), Error> {
    let path = dir.join(RECORD);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|source| Error::Read { path: path.clone(), source })?,
    };
    let record = serde_json::from_slice::<Value>(&text).is_ok_and(|record| record["easel_version"].is_string());
    let foreign = || format!("{} is no record of easel generate: choose another folder with --out", path.display());
    if record { Ok(()) } else { Err(Error::Usage(foreign())) }
}

fn name(rank: usize, picture: &Picture, score: Option<f64>) -> String {
    let score = score.map_or(String::new(), scored);
    format!("{rank:02}-seed{}{score}.{}", picture.seed, picture.image.extension())
}

/// A score within a name: a minus would read as one more dash.
fn scored(score: f64) -> String {
    let sign = if score.is_sign_negative() { "neg" } else { "" };
    format!("-{sign}{:.3}", score.abs())
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
    fn a_folder_that_stays_empty_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let (outer, inner) = (dir.path().join("a"), dir.path().join("a/b"));
        drop(Reserved::new(&inner).unwrap());
        assert!(!outer.exists());
        drop(Reserved::new(dir.path()).unwrap());
        assert!(dir.path().exists());
        let reserved = Reserved::new(&inner).unwrap();
        fs::write(inner.join("kept"), "").unwrap();
        drop(reserved);
        assert!(inner.join("kept").exists());
        assert!(Reserved::new(&inner.join("kept")).is_err());
    }

    #[test]
    fn a_record_of_another_program_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for foreign in ["{}", "[1]", "no JSON", ""] {
            fs::write(dir.path().join(RECORD), foreign).unwrap();
            let line = Reserved::new(dir.path()).err().unwrap().line();
            assert!(line.contains(RECORD) && line.contains("--out"), "{line}");
        }
        fs::write(dir.path().join(RECORD), r#"{"easel_version": "0.1.0"}"#).unwrap();
        assert!(Reserved::new(dir.path()).is_ok());
    }

    #[test]
    fn a_score_in_a_name_has_one_dash() {
        assert_eq!((scored(0.792), scored(-0.483)), ("-0.792".to_owned(), "-neg0.483".to_owned()));
    }

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
