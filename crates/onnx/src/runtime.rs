use std::{
    env,
    error::Error as _,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{LoadDynamicError, environment::Environment, logging::LogLevel};

use crate::Error;

/// Names the library, and wins over the search.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// The API that `ort` is built for in the workspace's Cargo.toml.
const OLDEST: &str = "1.24";
/// Where `make onnxruntime` puts the library.
const FOLDER: &str = ".tools/onnxruntime";

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

/// The ONNX Runtime library, loaded once for the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
}

impl Runtime {
    /// Loads the library that ORT_DYLIB_PATH names, or the one in `.tools/onnxruntime/` of the executable's or the current folder or one above.
    ///
    /// Later calls give what the first success gave.
    ///
    /// # Errors
    /// No library is found (the message says what to type), or it is not one of ONNX Runtime 1.24 or later.
    pub fn load() -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let path = locate()?;
        let failed = |reason: String| Error::Library { path: path.clone(), reason };
        let environment = ort::init_from(&path)
            .map_err(|error| failed(why(error, &path)))?
            .with_name("easel")
            .with_telemetry(false)
            .with_logger(Arc::new(|level, _, _, location, message| log(level, location, message)))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        tracing::info!(library = %path.display(), "onnx runtime loaded");
        Ok(loaded.insert(Self { environment }).clone())
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// ONNX Runtime warns of much that nobody can act on, such as a machine without a GPU; its errors come back to the caller as well.
fn log(level: LogLevel, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(target: "onnxruntime", location, "{message}"),
        LogLevel::Warning => tracing::debug!(target: "onnxruntime", location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::warn!(target: "onnxruntime", location, "{message}"),
    }
}

fn why(error: LoadDynamicError, path: &Path) -> String {
    match error {
        // The error itself says only that it failed; its source is the loader's own words.
        LoadDynamicError::Dlopen { error, .. } => {
            shorten(&error.source().map_or_else(|| error.to_string(), ToString::to_string), path)
        }
        LoadDynamicError::MissingApi { .. } => "no onnx runtime: it does not export OrtGetApiBase".into(),
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("expected version {OLDEST} or later, found {version_str}")
        }
        LoadDynamicError::InvalidVersionString => "its version is no text".into(),
    }
}

/// The loader's words without the path that they begin with.
fn shorten(words: &str, path: &Path) -> String {
    words.strip_prefix(&format!("{}: ", path.display())).unwrap_or(words).to_owned()
}

fn locate() -> Result<PathBuf, Error> {
    if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let executable = env::current_exe().ok().and_then(|path| Some(path.parent()?.to_path_buf()));
    let starts: Vec<PathBuf> = [executable, env::current_dir().ok()].into_iter().flatten().collect();
    starts.iter().find_map(|start| search(start)).ok_or_else(|| Error::LibraryMissing {
        searched: starts.iter().map(|start| start.display().to_string()).collect::<Vec<_>>().join(" and "),
    })
}

/// The newest library in `.tools/onnxruntime/` of `start` or the nearest folder above that has one.
fn search(start: &Path) -> Option<PathBuf> {
    start.ancestors().find_map(|folder| {
        let files = fs::read_dir(folder.join(FOLDER)).ok()?;
        let library = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("libonnxruntime.so") || name.starts_with("libonnxruntime.") && name.ends_with(".dylib")
        };
        files.filter_map(|file| Some(file.ok()?.path())).filter(library).max()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_library_is_found_in_a_folder_above() {
        let root = tempfile::tempdir().unwrap();
        let tools = root.path().join(FOLDER);
        let deep = root.path().join("target/debug/deps");
        fs::create_dir_all(&tools).unwrap();
        fs::create_dir_all(&deep).unwrap();
        fs::write(tools.join("libonnxruntime_providers_shared.so"), "").unwrap();
        assert_eq!(search(&deep).filter(|path| path.starts_with(root.path())), None);
        for name in ["libonnxruntime.so.1.30.0", "libonnxruntime.so.1.31.1"] {
            fs::write(tools.join(name), "").unwrap();
        }
        assert_eq!(search(&deep), Some(tools.join("libonnxruntime.so.1.31.1")));
    }

    #[test]
    fn a_library_that_is_not_there_is_named_once() {
        let path = Path::new("/nowhere/libonnxruntime.so");
        let reason = shorten("/nowhere/libonnxruntime.so: cannot open shared object file", path);
        let error = Error::Library { path: path.into(), reason }.to_string();
        assert_eq!(error.matches("/nowhere").count(), 1, "{error}");
        assert!(error.contains("make onnxruntime"), "{error}");
    }

    #[test]
    fn loading_twice_gives_the_same_environment() {
        let (one, two) = (Runtime::load().unwrap(), Runtime::load().unwrap());
        assert_eq!(format!("{one:?}"), format!("{two:?}"));
    }
}
