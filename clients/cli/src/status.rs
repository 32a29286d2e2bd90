use clap::Args;
use easel_client::Stage;
use serde_json::{Value, json};

use crate::gateway::Running;
use crate::{Error, output};

/// Show the health and load of each stage behind a running gateway
#[derive(Args)]
pub(crate) struct Status {
    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(crate) gateway: Running,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let stages = self.gateway.connect().await?.stages().await?;
        if self.json {
            return output::print_json(&stages.iter().map(to_json).collect::<Vec<_>>());
        }
        let head = ["STAGE", "ADDRESS", "HEALTH", "QUEUE", "SLOTS", "DEVICE", "MEMORY", "UP", "DETAIL"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(stages.iter().map(to_row));
        output::print(&output::table(&rows))
    }
}

fn to_row(stage: &Stage) -> Vec<String> {
    let (name, address) = (stage.name.clone(), stage.address.clone());
    let Some(status) = &stage.status else {
        let nothing = || "-".to_owned();
        let health = "unreachable".to_owned();
        return vec![name, address, health, nothing(), nothing(), nothing(), nothing(), nothing(), stage.error.clone()];
    };
    vec![
        name,
        address,
        if status.ready { "ready" } else { "not ready" }.to_owned(),
        format!("{}/{}", status.queue_depth, status.queue_capacity),
        format!("{}/{}", status.slots_in_use, status.slots_total),
        if status.device.is_empty() { "-".to_owned() } else { status.device.clone() },
        output::bytes(status.resident_memory_bytes),
        format!("{:.0} s", status.uptime_seconds),
        status.detail.clone(),
    ]
}

fn to_json(stage: &Stage) -> Value {
    let status = stage.status.as_ref().map(|status| {
        let package = |p: &easel_client::PackageRef| json!({"name": p.name, "digest": p.digest});
        json!({
            "service": status.service,
            "version": status.version,
            "ready": status.ready,
            "detail": status.detail,
            "queue_depth": status.queue_depth,
            "queue_capacity": status.queue_capacity,
            "slots_in_use": status.slots_in_use,
            "slots_total": status.slots_total,
            "packages": status.packages.iter().map(package).collect::<Vec<_>>(),
            "device": status.device,
            "resident_memory_bytes": status.resident_memory_bytes,
            "uptime_seconds": status.uptime_seconds,
        })
    });
    json!({
        "stage": stage.name, "address": stage.address, "reachable": stage.reachable, "error": stage.error, "status": status,
    })
}
