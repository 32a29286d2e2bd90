//! The stages as the gateway sees them: each a pool of replicas, and the calls to it.

mod answers;
mod calls;
mod health;
mod pool;

use std::fmt;
use std::time::Duration;

use easel_proto::{stage, v1};
use futures::future::join_all;

pub(crate) use self::answers::Answers;
use self::pool::Pool;
use crate::Config;

/// How often host names are looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);

/// A stage of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Tokenizer,
    Sampler,
    Decoder,
    Ranker,
    Gateway,
}

impl Stage {
    /// All of them, in the order of `Finished.stages`.
    pub(crate) const ALL: [Self; 5] = [Self::Tokenizer, Self::Sampler, Self::Decoder, Self::Ranker, Self::Gateway];

    /// Its name in telemetry, errors and `StageTime`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tokenizer => stage::TOKENIZER,
            Self::Sampler => stage::SAMPLER,
            Self::Decoder => stage::DECODER,
            Self::Ranker => stage::RANKER,
            Self::Gateway => stage::GATEWAY,
        }
    }

    /// The full name of its gRPC service.
    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::Tokenizer => v1::tokenizer_service_server::SERVICE_NAME,
            Self::Sampler => v1::sampler_service_server::SERVICE_NAME,
            Self::Decoder => v1::decoder_service_server::SERVICE_NAME,
            Self::Ranker => v1::ranker_service_server::SERVICE_NAME,
            Self::Gateway => v1::gateway_service_server::SERVICE_NAME,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The four stages that the gateway conducts.
pub(crate) struct Stages {
    tokenizer: Pool,
    sampler: Pool,
    decoder: Pool,
    ranker: Pool,
    message_bytes: usize,
}

impl Stages {
    /// The stages at the addresses of `config`; nothing is connected yet.
    pub(crate) fn new(config: &Config) -> Self {
        let pool = |stage, addresses: &Vec<_>| Pool::new(stage, addresses.clone(), config.max_requests);
        Self {
            tokenizer: pool(Stage::Tokenizer, &config.tokenizer),
            sampler: pool(Stage::Sampler, &config.sampler),
            decoder: pool(Stage::Decoder, &config.decoder),
            ranker: pool(Stage::Ranker, &config.ranker),
            message_bytes: config.server.max_message_bytes(),
        }
    }

    fn pools(&self) -> [&Pool; 4] {
        [&self.tokenizer, &self.sampler, &self.decoder, &self.ranker]
    }

    /// Looks the stages' host names up, again and again. Never returns.
    pub(crate) async fn keep_resolved(&self) {
        loop {
            join_all(self.pools().map(|pool| pool.resolve())).await;
            tokio::time::sleep(LOOKUP_INTERVAL).await;
        }
    }
}
