//! The methods that exist: what a path is worth as a label.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use prost_types::FileDescriptorSet;

use crate::Error;

/// Services that are answered while the server drains, and that neither metrics nor traces at info speak of.
const CONTROL: &[&str] = &[
    "easel.v1.StatusService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// One method of the contract.
#[derive(Debug, PartialEq)]
pub(crate) struct Method {
    /// "easel.v1.SamplerService"
    pub(crate) service: Arc<str>,
    /// "Sample"
    pub(crate) method: Arc<str>,
    /// "easel.v1.SamplerService/Sample"
    pub(crate) name: String,
    /// About the server, not part of its job.
    pub(crate) control: bool,
}

impl Method {
    fn new(service: &str, method: &str) -> Arc<Self> {
        Arc::new(Self {
            service: service.into(),
            method: method.into(),
            name: format!("{service}/{method}"),
            control: CONTROL.contains(&service),
        })
    }
}

/// All methods of a descriptor set. Paths outside it share one label: a caller must not be able to make new ones.
#[derive(Debug)]
pub(crate) struct Methods {
    known: HashMap<String, Arc<Method>>,
    control: Arc<Method>,
    other: Arc<Method>,
}

impl Methods {
    pub(crate) fn new(descriptors: &[u8]) -> Result<Self, Error> {
        let set = FileDescriptorSet::decode(descriptors).map_err(|error| Error::Descriptors(error.into()))?;
        let mut known = HashMap::new();
        for file in &set.file {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let method = Method::new(&service_name, method.name());
                    known.insert(format!("/{}", method.name), method);
                }
            }
        }
        Ok(Self { known, control: Method::new("grpc.health.v1.Health", "other"), other: Method::new("other", "other") })
    }

    /// The method of an HTTP path.
    pub(crate) fn of(&self, path: &str) -> Arc<Method> {
        let service = path.trim_start_matches('/').split('/').next();
        let method = match self.known.get(path) {
            Some(method) => method,
            None if service.is_some_and(|service| CONTROL.contains(&service)) => &self.control,
            None => &self.other,
        };
        method.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_makes_labels() -> Result<(), Error> {
        let methods = Methods::new(easel_proto::FILE_DESCRIPTOR_SET)?;
        let sample = methods.of("/easel.v1.SamplerService/Sample");
        assert_eq!(sample.name, "easel.v1.SamplerService/Sample");
        assert!(!sample.control);
        assert!(methods.of("/easel.v1.StatusService/GetStatus").control);
        assert!(methods.of("/grpc.health.v1.Health/Watch").control);
        assert_eq!(&*methods.of("/made/Up").service, "other");
        assert_eq!(&*methods.of("").method, "other");
        Ok(())
    }
}
