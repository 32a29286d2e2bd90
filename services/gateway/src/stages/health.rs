//! Whether the stages can be reached, and what they say of themselves.

use std::time::Duration;

use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_proto::v1::{self, GetStatusRequest, GetStatusResponse};
use easel_server::Readiness;
use futures::future::{join_all, try_join};
use tokio::time::timeout;
use tonic::{Code, Status};
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
/// An address that leads to another stage's service.
const MISLED: &str = "another service answers there";

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
                false => readiness.unready(format!("unavailable: {}", missing.join(", "))),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The stages of which no replica serves, each with what is wrong where another service answers.
    async fn missing(&self) -> Vec<String> {
        let checks = self.pools().map(|pool| async {
            let replicas = pool.replicas();
            let health = join_all(replicas.iter().map(|replica| health(pool.stage, replica))).await;
            if health.iter().any(Result::is_ok) {
                return None;
            }
            let mut checked = replicas.iter().zip(&health);
            let misled = checked.find(|(_, health)| health.as_ref().is_err_and(|reason| reason == MISLED));
            Some(match misled {
                Some((replica, _)) => format!("{}: http://{}: {MISLED}", pool.stage, replica.at),
                None => pool.stage.name().to_owned(),
            })
        });
        join_all(checks).await.into_iter().flatten().collect()
    }

    /// What every replica of every stage says of itself.
    pub(crate) async fn list(&self) -> Vec<v1::Stage> {
        let lists = join_all(self.pools().map(list)).await;
        lists.into_iter().flatten().collect()
    }
}

/// Asks a replica for its health, and remembers the answer for when one is picked; why it does not serve.
async fn health(stage: Stage, replica: &Replica) -> Result<(), String> {
    let health = match timeout(PATIENCE, check(stage, replica)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("not ready".to_owned()),
        Ok(Err(error)) => Err(crate::fault::cause(&error)),
        Err(_) => Err(silent()),
    };
    replica.checked(stage, &health);
    health
}

fn silent() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

/// Whether `stage` serves at `replica`. Asked by its full name: another service does not know it.
async fn check(stage: Stage, replica: &Replica) -> Result<bool, Status> {
    let request = HealthCheckRequest { service: stage.service().to_owned() };
    match HealthClient::new(replica.channel()).check(request).await {
        Ok(response) => Ok(response.get_ref().status() == ServingStatus::Serving),
        Err(error) if error.code() == Code::NotFound => Err(Status::not_found(MISLED)),
        Err(error) => Err(error),
    }
}

async fn list(pool: &Pool) -> Vec<v1::Stage> {
    let mut stages = Vec::new();
    for (index, address) in pool.addresses().iter().enumerate() {
        let replicas = pool.replicas_of(index);
        if replicas.is_empty() {
            let error = "the address does not resolve, or only to one that is listed already".to_owned();
            stages.push(stage(pool, address.to_string(), Err(error)));
        }
        let asked = replicas.iter().map(|replica| async { (replica.at, report(pool.stage, replica).await) });
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
async fn report(stage: Stage, replica: &Replica) -> Result<GetStatusResponse, String> {
    let status = async {
        let mut client = StatusServiceClient::new(replica.channel());
        Ok(client.get_status(GetStatusRequest {}).await?.into_inner())
    };
    match timeout(PATIENCE, try_join(status, check(stage, replica))).await {
        Ok(Ok((status, serving))) => Ok(GetStatusResponse { ready: status.ready && serving, ..status }),
        Ok(Err(error)) => Err(crate::fault::cause(&error)),
        Err(_) => Err(silent()),
    }
}
