//! `grpc.health.v1.Health`, straight from [`Readiness`]: no copy that could lag behind.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::Readiness;

/// Health of the services in `names`, and of the whole, "".
pub(crate) struct Health {
    pub(crate) names: &'static [&'static str],
    pub(crate) readiness: Readiness,
}

impl Health {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.names.contains(&service)
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving(ready: bool) -> ServingStatus {
    match ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(answer(serving(self.readiness.is_ready()))))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if !self.knows(&request.get_ref().service) {
            // The protocol keeps the stream open, for services that appear later; ours never do.
            let unknown = futures::stream::iter([Ok(answer(ServingStatus::ServiceUnknown))]);
            let answers = unknown.chain(futures::stream::pending());
            return Ok(Response::new(answers.boxed()));
        }
        let mut last = None;
        let changes = WatchStream::new(self.readiness.subscribe()).filter_map(move |state| {
            let ready = state.is_ready();
            let changed = last.replace(ready) != Some(ready);
            std::future::ready(changed.then(|| Ok(answer(serving(ready)))))
        });
        Ok(Response::new(changes.boxed()))
    }
}
