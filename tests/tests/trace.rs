//! One request is one trace: spans of all five services under the client's own parent, received by a real OTLP receiver.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use easel_tests::{Options, Suite, client, collect, request};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::Notify};
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[derive(Clone, Default)]
struct Receiver {
    /// (service.name, span)
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    arrived: Arc<Notify>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|a| a.key == "service.name").and_then(|a| a.value);
            let Some(Value::StringValue(name)) = name.and_then(|v| v.value) else { continue };
            let spans = resource.scope_spans.into_iter().flat_map(|s| s.spans);
            self.spans.lock().unwrap().extend(spans.map(|s| (name.clone(), s)));
        }
        self.arrived.notify_waiters();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_all_five_services() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let receiver = Receiver::default();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));

    let suite = Suite::start(Options { all: vec!["--otlp-endpoint".into(), endpoint], ..Options::default() }).await;
    let mut call = Request::new(request("a red car", 2, 1));
    call.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
    collect(client(&suite.gateway.url()).generate(call).await.unwrap().into_inner()).await.unwrap();

    let wanted = ["gateway", "tokenizer", "sampler", "decoder", "ranker"].map(|s| format!("easel-{s}"));
    let wanted = BTreeSet::from(wanted);
    let mine = |spans: &[(String, Span)]| -> Vec<(String, Span)> {
        spans.iter().filter(|(_, s)| hex(&s.trace_id) == TRACE).cloned().collect()
    };
    let spans = loop {
        let arrived = receiver.arrived.notified();
        let spans = mine(&receiver.spans.lock().unwrap());
        let services: BTreeSet<String> = spans.iter().map(|(service, _)| service.clone()).collect();
        if services == wanted && spans.iter().any(|(_, s)| hex(&s.parent_span_id) == PARENT) {
            break spans;
        }
        tokio::time::timeout(std::time::Duration::from_secs(30), arrived).await.expect("spans of all five services");
    };

    let by_id: BTreeMap<String, &(String, Span)> = spans.iter().map(|s| (hex(&s.1.span_id), s)).collect();
    for (service, span) in &spans {
        // Up from every span, through spans that were received, to the client's own.
        let mut parent = hex(&span.parent_span_id);
        while parent != PARENT {
            let above = by_id.get(&parent);
            let (_, above) = above.unwrap_or_else(|| panic!("{service}: {} has no known parent", span.name));
            parent = hex(&above.parent_span_id);
        }
    }
    let roots: Vec<_> = spans.iter().filter(|(_, s)| hex(&s.parent_span_id) == PARENT).collect();
    assert!(roots.iter().all(|(service, _)| service == "easel-gateway"), "the client called the gateway alone");

    // What the sampler ran as a batch is linked to the request.
    let all = receiver.spans.lock().unwrap();
    let linked = all.iter().filter(|(service, _)| service == "easel-sampler");
    assert!(linked.flat_map(|(_, s)| &s.links).any(|l| hex(&l.trace_id) == TRACE), "a batch span links to the request");
}
