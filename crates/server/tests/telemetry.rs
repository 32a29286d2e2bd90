//! What a call leaves behind: a trace across services, metrics, logs. One test, as a process has one telemetry.

#[allow(unreachable_pub)]
mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use easel_proto::v1::sampler_service_client::SamplerServiceClient;
use easel_proto::v1::sampler_service_server::SamplerService;
use easel_proto::v1::{SampleRequest, SampleResponse};
use easel_server::{Config, Deadline, call, telemetry};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::BoxStream;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use support::{Script, start, start_with, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Passes a call on, and remembers what it saw.
#[derive(Clone)]
struct Relay {
    next: SamplerServiceClient<Channel>,
    seen: Arc<Mutex<Option<(String, Duration)>>>,
}

#[tonic::async_trait]
impl SamplerService for Relay {
    type SampleStream = BoxStream<SampleResponse>;

    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<Self::SampleStream>, Status> {
        let deadline = Deadline::of(&request);
        let trace = tracing::Span::current().context().span().span_context().trace_id();
        let left = deadline.map(Deadline::remaining).unwrap_or_default();
        *self.seen.lock().expect("no panic inside") = Some((trace.to_string(), left));
        tracing::info!(relayed = true, "passed on");
        let next = call::outgoing(request.into_inner(), deadline);
        assert!(next.metadata().contains_key("grpc-timeout"));
        let answer = self.next.clone().sample(next).await?;
        Ok(Response::new(Box::pin(answer.into_inner())))
    }
}

/// Keeps what is exported.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<String>>>,
    logs: Arc<Mutex<Vec<String>>>,
    services: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            self.services.lock().expect("no panic").extend(attributes.iter().map(|a| format!("{a:?}")));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().expect("no panic").extend(spans);
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.metrics.lock().expect("no panic").extend(names);
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_logs.into_iter().flat_map(|r| r.scope_logs);
        let records = scopes.flat_map(|scope| scope.log_records).map(|record| format!("{record:?}"));
        self.logs.lock().expect("no panic").extend(records);
        Ok(Response::new(Default::default()))
    }
}

async fn collect() -> (Collector, SocketAddr) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (collector, address)
}

async fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_traced_measured_and_logged() -> Result<(), Box<dyn std::error::Error>> {
    let (collector, address) = collect().await;
    let config = Config {
        metrics_listen: Some("127.0.0.1:0".parse()?),
        otlp_endpoint: Some(format!("http://{address}")),
        ..Config::default()
    };
    let telemetry = telemetry::init("standalone", &config)?;
    assert!(telemetry::init("standalone", &Config::default()).is_err(), "once in a process");

    let last = start(Script::Brief, Config::default()).await;
    let seen = Arc::new(Mutex::new(None));
    let first = start_with(Relay { next: last.client(), seen: seen.clone() }, Config::default()).await;
    let mut request = support::request();
    request.set_timeout(Duration::from_secs(60));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse()?);
    let mut events = first.client().sample(request).await?.into_inner();
    while within(events.message()).await?.is_some() {}

    let (trace, left) = seen.lock().expect("no panic").take().expect("the relay was called");
    assert_eq!(trace, TRACE);
    assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60), "{left:?}");

    // The gauges follow a reporter for as long as its server lives.
    let metrics = telemetry.metrics_address().expect("it was asked for");
    let page = within(scrape(metrics)).await?;
    assert!(page.contains("easel_slots{"), "{page}");
    first.end().await;
    last.end().await;
    check_page(&within(scrape(metrics)).await?);

    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    check_export(&collector);
    Ok(())
}

fn check_page(page: &str) {
    for line in [
        "# HELP easel_requests_total Calls that ended",
        "# TYPE easel_requests_total counter",
        "# HELP easel_request_duration_seconds Time from a call's arrival to the end of its response",
        "# TYPE easel_request_duration_seconds histogram",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    let counted = page.lines().find(|line| line.starts_with("easel_requests_total{")).expect("a series");
    for label in ["service=\"easel.v1.SamplerService\"", "method=\"Sample\"", "code=\"OK\""] {
        assert!(counted.contains(label), "{label} is not in {counted}");
    }
    assert!(counted.ends_with(" 2"), "two services were called: {counted}");
}

fn check_export(collector: &Collector) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans = collector.spans.lock().expect("no panic");
    let calls = spans.iter().filter(|span| span.name == "easel.v1.SamplerService/Sample").collect::<Vec<_>>();
    assert_eq!(calls.len(), 2, "{spans:?}");
    assert!(calls.iter().all(|span| hex(&span.trace_id) == TRACE));
    // The second service's span hangs under the first's, which hangs under the caller's.
    let first = calls.iter().find(|span| hex(&span.parent_span_id) == CALLER).expect("continues the caller's");
    assert!(calls.iter().any(|span| span.parent_span_id == first.span_id));
    let attributes = format!("{:?}", first.attributes);
    for name in ["rpc.system", "rpc.method", "rpc.grpc.status_code", "easel.stage"] {
        assert!(attributes.contains(name), "{name} is not in {attributes}");
    }
    let services = collector.services.lock().expect("no panic").join(" ");
    assert!(services.contains("easel-standalone") && services.contains("service.version"), "{services}");

    let metrics = collector.metrics.lock().expect("no panic");
    assert!(metrics.iter().any(|name| name == "easel.requests"), "{metrics:?}");
    let logs = collector.logs.lock().expect("no panic");
    let passed = logs.iter().find(|record| record.contains("passed on")).expect("the relay logged");
    assert!(!passed.contains("trace_id: []"), "{passed}");
}
