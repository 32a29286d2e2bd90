//! Whether the stages can be reached, and what they say of themselves.

use std::time::Duration;

use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_proto::v1::{self, GetStatusRequest, GetStatusResponse};
use easel_server::Readiness;
use futures::future::{join_all, try_join};
use tokio::time::timeout;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::pool::{Pool, Replica};
use super::{Stage, Stages};

/// How often the stages are asked for their health.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often while one is missing.
const INTERVAL_MISSING: Duration = Duration::from_millis(500);
/// How long a stage may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Stages {
    /// Keeps `readiness` true: ready while each stage has a replica that serves. Never returns.
    pub(crate) async fn keep_checked(&self, readiness: Readiness) {
        loop {
            let missing = self.missing().await;
            let pause = match missing.is_empty() {
                true => INTERVAL,
                false => INTERVAL_MISSING,
            };
            match missing.is_empty() {
                true => readiness.ready(),
                false => readiness.unready(describe(&missing)),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The stages of which no replica serves.
    async fn missing(&self) -> Vec<Stage> {
        let checks = self.pools().map(|pool| async {
            let replicas = pool.replicas();
            let serving = join_all(replicas.iter().map(|replica| serves(replica))).await;
            (pool.stage, serving.contains(&true))
        });
        let checked = join_all(checks).await;
        checked.into_iter().filter(|(_, serves)| !serves).map(|(stage, _)| stage).collect()
    }

    /// What every replica of every stage says of itself.
    pub(crate) async fn list(&self) -> Vec<v1::Stage> {
        let lists = join_all(self.pools().map(list)).await;
        lists.into_iter().flatten().collect()
    }
}

fn describe(missing: &[Stage]) -> String {
    let names: Vec<&str> = missing.iter().map(|stage| stage.name()).collect();
    format!("unavailable: {}", names.join(", "))
}

/// Asks a replica for its health, and remembers the answer for when one is picked.
async fn serves(replica: &Replica) -> bool {
    let serving = matches!(timeout(PATIENCE, check(replica)).await, Ok(Ok(true)));
    replica.answered(serving);
    serving
}

async fn check(replica: &Replica) -> Result<bool, Status> {
    let request = HealthCheckRequest { service: String::new() };
    let response = HealthClient::new(replica.channel()).check(request).await?;
    Ok(response.get_ref().status() == ServingStatus::Serving)
}

async fn list(pool: &Pool) -> Vec<v1::Stage> {
    let mut stages = Vec::new();
    for (index, address) in pool.addresses().iter().enumerate() {
        let replicas = pool.replicas_of(index);
        if replicas.is_empty() {
            let error = "the address does not resolve, or only to one that is listed already".to_owned();
            stages.push(stage(pool, address.to_string(), Err(error)));
        }
        let asked = replicas.iter().map(|replica| async { (replica.at, report(replica).await) });
        for (at, report) in join_all(asked).await {
            stages.push(stage(pool, format!("http://{at}"), report));
        }
    }
    stages
}

fn stage(pool: &Pool, address: String, report: Result<GetStatusResponse, String>) -> v1::Stage {
    let name = pool.stage.name().to_owned();
    let reachable = report.is_ok();
    let error = report.as_ref().err().cloned().unwrap_or_default();
    v1::Stage { name, address, reachable, error, status: report.ok() }
}

/// What a replica says of itself. It is not ready unless its health says so too.
async fn report(replica: &Replica) -> Result<GetStatusResponse, String> {
    let status = async {
        let mut client = StatusServiceClient::new(replica.channel());
        Ok(client.get_status(GetStatusRequest {}).await?.into_inner())
    };
    match timeout(PATIENCE, try_join(status, check(replica))).await {
        Ok(Ok((status, serving))) => Ok(GetStatusResponse { ready: status.ready && serving, ..status }),
        Ok(Err(error)) => Err(crate::fault::cause(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
