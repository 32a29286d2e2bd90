use std::sync::{Arc, Weak};
use std::time::Instant;

use easel_proto::v1::status_service_server::StatusService;
use easel_proto::v1::{GetStatusRequest, GetStatusResponse, PackageRef};
use opentelemetry::KeyValue;
use tonic::{Request, Response, Status};

use crate::telemetry::names::{Metric, label, metric};
use crate::{Readiness, telemetry};

/// How busy a service is, and what it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait.
    pub queue_depth: u32,
    /// Requests that may wait before more are refused.
    pub queue_capacity: u32,
    /// Rows of the batch in use, or requests in work.
    pub slots_in_use: u32,
    /// Rows of the batch, or requests that may be in work at once.
    pub slots_total: u32,
    /// Name and digest of each package that is loaded.
    pub packages: Vec<(String, String)>,
    /// "cpu" or "cuda"; empty where there is no model.
    pub device: String,
    /// What it runs on, for people.
    pub detail: String,
}

/// What a service says of itself, for `easel.v1.StatusService` and the gauges of load.
pub trait StatusReporter: Send + Sync + 'static {
    /// The load now. Called often: it must neither block nor wait for the model.
    fn load(&self) -> Load;
}

/// `easel.v1.StatusService` of any service.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) readiness: Readiness,
    pub(crate) reporter: Arc<dyn StatusReporter>,
    pub(crate) started: Instant,
}

#[tonic::async_trait]
impl StatusService for Report {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let load = self.reporter.load();
        let ready = self.readiness.is_ready();
        let package = |(name, digest)| PackageRef { name, digest };
        Ok(Response::new(GetStatusResponse {
            service: self.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready,
            detail: if ready { load.detail } else { self.readiness.reason() },
            queue_depth: load.queue_depth,
            queue_capacity: load.queue_capacity,
            slots_in_use: load.slots_in_use,
            slots_total: load.slots_total,
            packages: load.packages.into_iter().map(package).collect(),
            device: load.device,
            resident_memory_bytes: resident_memory_bytes(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
        }))
    }
}

/// Physical memory of this process; 0 where the system does not tell (it is not Linux).
fn resident_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?;
        value.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// Lets the gauges of load follow `reporter` for as long as it lives.
pub(crate) fn observe(name: &'static str, reporter: &Arc<dyn StatusReporter>) {
    type Value = fn(&Load) -> u32;
    let gauges: [(&Metric, Value); 3] = [
        (&metric::QUEUE_DEPTH, |load| load.queue_depth),
        (&metric::SLOTS_USED, |load| load.slots_in_use),
        (&metric::SLOTS, |load| load.slots_total),
    ];
    for (metric, value) in gauges {
        let reporter: Weak<dyn StatusReporter> = Arc::downgrade(reporter);
        telemetry::meter()
            .u64_observable_gauge(metric.name)
            .with_description(metric.help)
            .with_unit(metric.unit)
            .with_callback(move |observer| {
                if let Some(reporter) = reporter.upgrade() {
                    let stage = KeyValue::new(label::STAGE, name);
                    observer.observe(value(&reporter.load()).into(), &[stage]);
                }
            })
            .build();
    }
}
