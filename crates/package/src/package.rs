use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, FileEntry, Manifest, digest, sha256_hex, validate};

/// Name of the manifest within a package's folder.
pub const MANIFEST_FILE: &str = "manifest.json";

/// A manifest larger than this is refused unread.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A package on disk whose manifest was read and found sound.
#[derive(Clone, Debug)]
pub struct Package {
    dir: PathBuf,
    manifest: Manifest,
    digest: String,
}

impl Package {
    /// Reads and checks the manifest of the package in `dir`, and that its files are there with the right sizes.
    ///
    /// # Errors
    /// Names the file or the manifest's field, what was expected and what was found. Contents are checked by [`Package::file`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let dir = dir.into();
        let path = dir.join(MANIFEST_FILE);
        let io = |source| Error::Io { path: path.clone(), source };
        let bytes = fs::metadata(&path).map_err(io)?.len();
        if bytes > MAX_MANIFEST_BYTES {
            return Err(Error::File {
                path,
                expected: format!("at most {MAX_MANIFEST_BYTES} bytes"),
                found: format!("{bytes}"),
            });
        }
        let text = fs::read(&path).map_err(io)?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        validate::manifest(&path, &manifest)?;
        let package = Self { dir, manifest, digest: sha256_hex(&text) };
        for (name, entry) in &package.manifest.files {
            package.check_size(name, entry)?;
        }
        Ok(package)
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The SHA-256 of the manifest in lower-case hex; it covers every file through the digests in the manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file of the package, after its contents were held against the manifest.
    ///
    /// # Errors
    /// The file is not listed, cannot be read, or has another size or digest.
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        let Some(entry) = self.manifest.files.get(name) else {
            return Err(Error::File {
                path,
                expected: "a file listed in the manifest".into(),
                found: "no such entry".into(),
            });
        };
        self.check_size(name, entry)?;
        let (_, sha256) = digest::of_file(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        if sha256 != entry.sha256 {
            return Err(Error::File {
                path,
                expected: format!("sha256 {}", entry.sha256),
                found: format!("sha256 {sha256}"),
            });
        }
        Ok(path)
    }

    /// Checks the contents of every file.
    ///
    /// # Errors
    /// As [`Package::file`], for the first file that differs.
    pub fn verify(&self) -> Result<(), Error> {
        self.manifest.files.keys().try_for_each(|name| self.file(name).map(drop))
    }

    /// Writes the manifest of a package whose other files already lie in `dir`: fills in `files` from all of them, checks it, and writes it last.
    ///
    /// The same files and manifest give the same bytes, and so the same digest.
    ///
    /// # Errors
    /// A file cannot be read, or the manifest makes no sense.
    pub fn seal(dir: impl Into<PathBuf>, mut manifest: Manifest) -> Result<Self, Error> {
        let dir = dir.into();
        let io = |source| Error::Io { path: dir.clone(), source };
        manifest.files = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != MANIFEST_FILE && entry.path().is_file() {
                let (bytes, sha256) = digest::of_file(&entry.path()).map_err(io)?;
                manifest.files.insert(name, FileEntry { bytes, sha256 });
            }
        }
        let path = dir.join(MANIFEST_FILE);
        let mut text =
            serde_json::to_string_pretty(&manifest).map_err(|source| Error::Json { path: path.clone(), source })?;
        text.push('\n');
        validate::manifest(&path, &manifest)?;
        fs::write(&path, text).map_err(|source| Error::Io { path, source })?;
        Self::open(dir)
    }

    fn check_size(&self, name: &str, entry: &FileEntry) -> Result<(), Error> {
        let path = self.dir.join(name);
        let metadata = fs::metadata(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Err(Error::File { path, expected: "a regular file".into(), found: "another kind".into() });
        }
        let found = metadata.len();
        if found != entry.bytes {
            return Err(Error::File {
                path,
                expected: format!("{} bytes", entry.bytes),
                found: format!("{found} bytes"),
            });
        }
        Ok(())
    }
}
