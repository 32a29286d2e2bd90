//! The packages that a stage holds, from an empty shelf while they load to the look-up for a call.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use easel_proto::v1::PackageRef;
use tokio::sync::oneshot;
use tonic::Status;

use crate::serve::{Parts, serve};
use crate::{Config, status};

/// How soon a caller may ask again while the packages load.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A package on the shelf.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Its name, as its manifest gives it.
    pub name: String,
    /// Its manifest's SHA-256 in lower-case hex.
    pub digest: String,
    /// What the stage has of it.
    pub stage: T,
}

impl<T> Loaded<T> {
    /// How a message names it.
    pub fn reference(&self) -> PackageRef {
        PackageRef { name: self.name.clone(), digest: self.digest.clone() }
    }
}

/// The shelf: filled once, the default first. Clones share it.
#[derive(Debug)]
pub struct Packages<T> {
    loaded: Arc<OnceLock<Vec<Loaded<T>>>>,
}

impl<T> Packages<T> {
    /// An empty shelf.
    pub fn new() -> Self {
        Self { loaded: Arc::default() }
    }

    /// All of them; none while they load.
    pub fn all(&self) -> &[Loaded<T>] {
        self.loaded.get().map_or(&[], Vec::as_slice)
    }

    /// Name and digest of each, as [`Load`](crate::Load) lists them.
    pub fn names(&self) -> Vec<(String, String)> {
        self.all().iter().map(|package| (package.name.clone(), package.digest.clone())).collect()
    }

    /// The package that a message asks for.
    ///
    /// # Errors
    /// UNAVAILABLE while they load, NOT_FOUND for an unknown name, FAILED_PRECONDITION for another digest.
    pub fn find(&self, asked: Option<&PackageRef>) -> Result<&Loaded<T>, Status> {
        let any = PackageRef::default();
        let asked = asked.unwrap_or(&any);
        let loaded = self.loaded.get().ok_or_else(|| status::unavailable("loading the packages", RETRY_AFTER))?;
        let named = |package: &&Loaded<T>| asked.name.is_empty() || package.name == asked.name;
        let package = loaded.iter().find(named).ok_or_else(|| status::not_found("package", cut(&asked.name)))?;
        if !asked.digest.is_empty() && asked.digest != package.digest {
            let (name, here) = (&package.name, &package.digest);
            let text = format!("package {name}: expected digest {}, found {here}", cut(&asked.digest));
            return Err(status::precondition("package", name, text));
        }
        Ok(package)
    }

    /// Serves `parts` from the start, unready, while `load` runs on a thread of its own; what it gives fills the shelf, and then the service is ready.
    /// A shutdown does not wait for the load.
    ///
    /// # Errors
    /// As [`serve`], or as `load`: then the service ends at once.
    pub async fn serve<E>(
        &self,
        parts: Parts,
        config: &Config,
        shutdown: impl Future<Output = ()>,
        load: impl FnOnce() -> Result<Vec<Loaded<T>>, E> + Send + 'static,
    ) -> Result<(), E>
    where
        T: Send + 'static,
        E: From<crate::Error> + From<io::Error> + Send + 'static,
    {
        let (name, readiness) = (parts.name, parts.readiness.clone());
        readiness.unready("loading the packages");
        let (sender, loading) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("{name} load")).spawn(move || {
            // Nobody listens when the service has stopped meanwhile.
            let _ = sender.send(load());
        })?;
        let mut serving = pin!(serve(parts, config, shutdown));
        tokio::select! {
            result = &mut serving => return Ok(result?),
            loaded = loading => match loaded {
                Ok(loaded) => self.loaded.set(loaded?).map_or((), |()| readiness.ready()),
                Err(_) => resume_unwind(thread.join().expect_err("it would have sent what it loaded")),
            },
        }
        let packages = self.names();
        tracing::info!(service = name, ?packages, "ready");
        Ok(serving.await?)
    }
}

impl<T> Default for Packages<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Packages<T> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone() }
    }
}

/// The beginning of what a caller wrote: enough to recognise it, not more than an error may carry.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tonic::Code;

    use super::*;

    fn asked(name: &str, digest: &str) -> Option<PackageRef> {
        Some(PackageRef { name: name.into(), digest: digest.into() })
    }

    #[test]
    fn a_package_is_found_by_name_and_digest() {
        let packages = Packages::new();
        assert_eq!(packages.find(None).unwrap_err().code(), Code::Unavailable);
        let loaded = |name: &str, digest: &str| Loaded { name: name.into(), digest: digest.into(), stage: () };
        packages.loaded.set(vec![loaded("one", "aa"), loaded("two", "bb")]).unwrap();

        let name = |ask: Option<PackageRef>| packages.find(ask.as_ref()).map(|package| package.name.as_str());
        assert_eq!(name(None).unwrap(), "one");
        assert_eq!(name(asked("", "")).unwrap(), "one");
        assert_eq!(name(asked("two", "")).unwrap(), "two");
        assert_eq!(name(asked("two", "bb")).unwrap(), "two");
        assert_eq!(name(asked("three", "")).unwrap_err().code(), Code::NotFound);
        let refusal = name(asked("two", "aa")).unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.message(), "package two: expected digest aa, found bb");
        let long = name(asked(&"ä".repeat(100_000), "")).unwrap_err();
        assert!(long.message().len() < 200);
    }
}
