//! The package that comes with the project.

use std::path::{Path, PathBuf};

use crate::Error;

/// Where it lies within the project.
pub(crate) const PACKAGE: &str = "models/scenes/package";

/// Looks for the package beside the program's ancestors (target/release lies within the project), then from the current folder up.
pub(crate) fn find() -> Result<PathBuf, Error> {
    let places = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    places.iter().flatten().find_map(|place| above(place)).ok_or(Error::NoPackage)
}

fn above(place: &Path) -> Option<PathBuf> {
    place.ancestors().map(|folder| folder.join(PACKAGE)).find(|package| package.join("manifest.json").is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_package_is_found_from_any_folder_of_the_project() {
        let project = tempfile::tempdir().unwrap();
        let package = project.path().join(PACKAGE);
        let deep = project.path().join("target/release");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(above(&deep), None);
        std::fs::write(package.join("manifest.json"), "{}").unwrap();
        assert_eq!(above(&deep), Some(package.clone()));
        assert_eq!(above(project.path()), Some(package));
    }
}
