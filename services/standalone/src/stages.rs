//! The options of each service, from those of the standalone.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::{Config, Error};

/// Options of a service on their way through its own command line, so that its environment variables and defaults hold.
pub(crate) struct Options {
    stage: &'static str,
    arguments: Vec<OsString>,
}

impl Options {
    pub(crate) fn new(stage: &'static str) -> Self {
        Self { stage, arguments: vec![stage.into()] }
    }

    pub(crate) fn packages(mut self, packages: &[PathBuf]) -> Self {
        for package in packages {
            self = self.set("--package", package);
        }
        self
    }

    pub(crate) fn engine(self, config: &Config) -> Self {
        let options =
            self.set("--device", config.engine.device.name()).set("--threads", config.engine.threads.to_string());
        match config.engine.memory_limit_mib {
            Some(limit) => options.set("--memory-limit-mib", limit.to_string()),
            None => options,
        }
    }

    /// What only the sampler has.
    pub(crate) fn sampler(mut self, config: &Config) -> Self {
        if let Some(slots) = config.engine.slots {
            self = self.set("--slots", slots.to_string());
        }
        match &config.engine.kv {
            Some(kv) => self.set("--kv", kv),
            None => self,
        }
    }

    pub(crate) fn stage(self, flag: &str, address: SocketAddr) -> Self {
        self.set(flag, format!("http://{address}"))
    }

    pub(crate) fn parse<C: Parser>(self) -> Result<C, Error> {
        let stage = self.stage;
        C::try_parse_from(self.arguments).map_err(|error| Error::Options { stage, reason: error.to_string() })
    }

    fn set(mut self, flag: &str, value: impl Into<OsString>) -> Self {
        let mut argument = OsString::from(flag);
        argument.push("=");
        argument.push(value.into());
        self.arguments.push(argument);
        self
    }
}
