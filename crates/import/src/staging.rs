//! A package is written into a folder beside its place and moved there when it is whole.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use easel_package::MANIFEST_FILE;

use crate::Error;

/// Folders of this process's id that may lie about: of other imports at work, or of a killed one (in a container, processes have the same ids again).
const MAX_LEFT_BEHIND: u32 = 100;
/// Far more than a manifest has.
const MANIFEST_BYTES: u64 = 16 << 20;

/// A folder under construction; it is removed unless it is published.
pub(crate) struct Staging {
    /// Where the package will be.
    out: PathBuf,
    overwrite: bool,
    dir: PathBuf,
}

impl Staging {
    /// A new folder beside `out`. What is at `out` already must be an empty folder, or, with `overwrite`, a package.
    pub(crate) fn new(out: &Path, overwrite: bool) -> Result<Self, Error> {
        may_replace(out, overwrite)?;
        let no_name =
            || Error::File { path: out.into(), expected: "the name of a folder".into(), found: "none".into() };
        let name = out.file_name().ok_or_else(no_name)?;
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.into(), source })?;
        }
        let mut attempt = 0;
        loop {
            let mut partial = OsString::from(".");
            partial.push(name);
            partial.push(format!(".{}.{attempt}.partial", std::process::id()));
            let dir = out.with_file_name(partial);
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { out: out.into(), overwrite, dir }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_LEFT_BEHIND => attempt += 1,
                Err(source) => return Err(Error::Io { path: out.into(), source }),
            }
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves the folder to its place; a package that was there is removed. What came there meanwhile counts as what was there from the start.
    pub(crate) fn publish(self) -> Result<(), Error> {
        may_replace(&self.out, self.overwrite)?;
        let old = self.dir.with_extension("old");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        let had_one = self.out.exists();
        if had_one {
            fs::rename(&self.out, &old).map_err(io(&self.out))?;
        }
        if let Err(source) = fs::rename(&self.dir, &self.out) {
            if had_one {
                fs::rename(&old, &self.out).map_err(io(&old))?;
            }
            return Err(Error::Io { path: self.out.clone(), source });
        }
        if had_one { fs::remove_dir_all(&old).map_err(io(&old)) } else { Ok(()) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.dir.display(), %error, "an unfinished package was left behind");
            }
            _ => {}
        }
    }
}

fn may_replace(out: &Path, overwrite: bool) -> Result<(), Error> {
    let fail = |expected: &str, found: &str| {
        Err(Error::File { path: out.into(), expected: expected.into(), found: found.into() })
    };
    match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fail("a folder, or nothing yet", "a file"),
        Err(source) => Err(Error::Io { path: out.into(), source }),
        Ok(true) => Ok(()),
        Ok(false) if !out.join(MANIFEST_FILE).is_file() => fail("an empty folder or a package", "other files"),
        Ok(false) if !overwrite => fail("nothing yet, or --overwrite", "a package"),
        Ok(false) => match foreign(out)? {
            Some(name) => fail("a package and nothing else, since all of it is replaced", &name),
            None => Ok(()),
        },
    }
}

/// Something in a package's folder that its manifest does not name.
fn foreign(out: &Path) -> Result<Option<String>, Error> {
    let manifest = crate::checkpoint::json(&out.join(MANIFEST_FILE), MANIFEST_BYTES)?;
    let named =
        |name: &OsStr| name == MANIFEST_FILE || name.to_str().is_some_and(|name| manifest["files"].get(name).is_some());
    let io = |source| Error::Io { path: out.into(), source };
    for entry in fs::read_dir(out).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if !named(&name) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn staged(out: &Path, overwrite: bool) -> Staging {
        let staging = Staging::new(out, overwrite).unwrap();
        fs::write(staging.dir().join(MANIFEST_FILE), "{}").unwrap();
        staging
    }

    #[test]
    fn two_imports_to_one_place_do_not_meet_and_the_second_replaces_only_what_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("package");
        let [first, second, third] = [false, false, true].map(|overwrite| staged(&out, overwrite));
        first.publish().unwrap();
        let refused = second.publish().unwrap_err().to_string();
        assert!(refused.contains("nothing yet, or --overwrite"), "{refused}");
        third.publish().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["package"]);
    }

    #[test]
    fn what_a_package_does_not_name_is_not_taken_away_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("package");
        staged(&out, false).publish().unwrap();
        fs::write(out.join("thesis.tex"), "precious").unwrap();
        let refused = Staging::new(&out, true).map(drop).unwrap_err().to_string();
        assert!(refused.contains("expected a package and nothing else") && refused.contains("thesis.tex"), "{refused}");
        assert_eq!(fs::read(out.join("thesis.tex")).unwrap(), b"precious");
    }
}
