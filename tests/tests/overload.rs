//! More work than there is room for, and callers who go away.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use easel_proto::v1::generate_response::Event;
use easel_tests::{Options, Process, Suite, client, draw, request};
use futures::future::join_all;
use tonic::Code;
use tonic_types::StatusExt;

/// Waits until `condition` holds of what Prometheus would scrape.
async fn until(process: &Process, name: &str, labels: &[&str], condition: impl Fn(f64) -> bool) -> f64 {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let value = process.metric(name, labels);
        match value {
            Some(value) if condition(value) => return value,
            _ if Instant::now() > patience => panic!("{name} stays at {value:?}"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_against_a_small_queue_all_end() {
    let options = ["--slots", "4", "--queue", "4"].map(String::from).to_vec();
    let suite = Suite::start(Options { sampler: options, ..Options::default() }).await;
    let url = suite.gateway.url();
    let before = resident_mib(suite.sampler.id());
    let requests = (0..64).map(|seed| draw(&url, request("a red car", 2, seed)));
    let outcomes = tokio::time::timeout(Duration::from_secs(240), join_all(requests)).await.expect("none hangs");

    let mut finished = 0;
    for outcome in outcomes {
        match outcome {
            Ok(drawing) => finished += usize::from(drawing.pictures.len() == 2),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                let delay = status.get_details_retry_info().and_then(|r| r.retry_delay);
                assert!(delay.is_some_and(|d| !d.is_zero()), "{status:?}");
            }
        }
    }
    assert!(finished >= 4, "{finished} finished");
    assert!(finished < 64, "a queue of four cannot hold sixty");
    until(&suite.sampler, "easel_slots_used", &["sampler"], |v| v == 0.0).await;
    let after = resident_mib(suite.sampler.id());
    assert!(after < before + 256, "the sampler grew from {before} to {after} MiB");
    draw(&url, request("a red car", 1, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_at_30_percent_frees_its_slots_at_once() {
    let suite = Suite::start(Options { sampler: vec!["--slots".into(), "4".into()], ..Options::default() }).await;
    let url = suite.gateway.url();
    let mut running = client(&url).generate(request("a red car", 32, 1)).await.unwrap().into_inner();
    let tokens = loop {
        if let Some(Event::Progress(p)) = running.message().await.unwrap().unwrap().event
            && p.tokens_done * 10 >= p.tokens_total * 3
        {
            break p.tokens_total;
        }
    };
    drop(running);
    until(&suite.sampler, "easel_slots_used", &["sampler"], |v| v == 0.0).await;
    let cancelled = until(&suite.sampler, "easel_candidates_cancelled_total", &[], |v| v > 0.0).await;
    assert!(cancelled <= 32.0);
    // All of them take eight turns of the four slots.
    let steps = suite.sampler.metric("easel_step_duration_seconds_count", &[]).unwrap();
    assert!(steps < f64::from(8 * tokens) / 2.0, "{steps} steps, most of them for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_generation_in_every_stage() {
    let suite = Suite::start(Options { sampler: vec!["--slots".into(), "2".into()], ..Options::default() }).await;
    let mut call = tonic::Request::new(request("a red car", 64, 1));
    call.set_timeout(Duration::from_millis(300));
    let outcome = async { easel_tests::collect(client(&suite.gateway.url()).generate(call).await?.into_inner()).await };
    let status =
        tokio::time::timeout(Duration::from_secs(20), outcome).await.expect("the deadline is kept").unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    until(&suite.sampler, "easel_slots_used", &["sampler"], |v| v == 0.0).await;
}

fn resident_mib(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
