//! Whether a service says that it can do its job.

use std::net::SocketAddr;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Error;

/// Returns when the service at `address` is SERVING.
///
/// # Errors
/// The service does not answer the watch, or ends it.
pub(crate) async fn serving(stage: &'static str, address: SocketAddr) -> Result<(), Error> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| Error::Service { stage, source };
    let channel = easel_server::channel::endpoint(format!("http://{address}")).map_err(|error| fail(error.into()))?;
    let mut health = HealthClient::new(channel.connect_lazy());
    let watch = health.watch(HealthCheckRequest { service: String::new() }).await;
    let mut states = watch.map_err(|status| fail(status.into()))?.into_inner();
    while let Some(state) = states.message().await.map_err(|status| fail(status.into()))? {
        if state.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    Err(Error::Ended { stage })
}
