//! A call belongs to the caller's trace.

use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

use crate::gateway;

#[tokio::test]
async fn the_current_span_goes_with_the_call() {
    let mut gateway = gateway::start().await;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let span = tracing::info_span!("drawing");
    let trace = span.context().span().span_context().trace_id().to_string();
    gateway.client.generate("a cat").instrument(span).await.unwrap();
    let (metadata, _) = gateway.calls.recv().await.unwrap();
    let parent = metadata.get("traceparent").unwrap().to_str().unwrap();
    assert!(parent.contains(&trace), "{parent} is not of {trace}");
}
