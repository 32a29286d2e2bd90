//! The packages of the suite, as the tokenizer describes them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use easel_proto::v1::{Limits, Package, PackageRef};
use easel_server::Deadline;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::stages::Stages;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(5);

/// What the tokenizer said last.
pub(crate) struct Packages {
    limits: Limits,
    known: Mutex<Option<(Instant, Arc<[Package]>)>>,
}

impl Packages {
    /// Nothing is known yet; `limits` are told with each package.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    /// All packages, the default first.
    ///
    /// # Errors
    /// The tokenizer's.
    pub(crate) async fn all(&self, stages: &Stages, deadline: Deadline) -> Result<Arc<[Package]>, Status> {
        let known = self.known.lock().expect("no one panics with it").clone();
        if let Some((since, packages)) = known
            && since.elapsed() < FRESH
        {
            return Ok(packages);
        }
        let mut packages = stages.describe_packages(deadline).await?;
        for package in &mut packages {
            package.limits = Some(self.limits);
        }
        let packages: Arc<[Package]> = packages.into();
        *self.known.lock().expect("no one panics with it") = Some((Instant::now(), packages.clone()));
        Ok(packages)
    }

    /// The package `name`, or the default when it is empty; `None` when there is none.
    ///
    /// # Errors
    /// The tokenizer's.
    pub(crate) async fn find(
        &self,
        name: &str,
        stages: &Stages,
        deadline: Deadline,
    ) -> Result<Option<Package>, Status> {
        let packages = self.all(stages, deadline).await?;
        Ok(packages.iter().find(|package| name.is_empty() || package.name == name).cloned())
    }

    /// Name and digest of each package that is known.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let known = self.known.lock().expect("no one panics with it");
        let packages = known.iter().flat_map(|(_, packages)| packages.iter());
        packages.map(|package| (package.name.clone(), package.digest.clone())).collect()
    }

    /// Forgets what is known when a stage holds other packages than the tokenizer did.
    pub(crate) fn doubt(&self, failure: &Status) {
        if failure.code() == Code::FailedPrecondition {
            *self.known.lock().expect("no one panics with it") = None;
        }
    }
}

/// How `package` is named to the stages.
pub(crate) fn reference(package: &Package) -> PackageRef {
    PackageRef { name: package.name.clone(), digest: package.digest.clone() }
}
