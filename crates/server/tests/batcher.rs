//! The batcher: what shares a run, what is dropped, what is refused, and how it ends.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use easel_server::batcher::{Admission, Batcher, Error, Job, Model, Options, Priority, Ticket};
use easel_server::{Deadline, Readiness, State};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Span;
use tracing::span::Id;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

const LONG: Duration = Duration::from_secs(20);

/// Doubles numbers. Every run is told to `runs` and then waits for a word from `go`. Lanes are hundreds; 13 fails, 14 panics.
struct Doubler {
    runs: mpsc::Sender<Vec<u32>>,
    go: mpsc::Receiver<()>,
}

impl Model for Doubler {
    type Input = u32;
    type Output = u32;
    type Error = io::Error;

    fn lane(input: &u32) -> usize {
        (input / 100) as usize
    }

    fn run(&mut self, inputs: Vec<u32>) -> Result<Vec<u32>, io::Error> {
        self.runs.send(inputs.clone()).unwrap();
        self.go.recv_timeout(LONG).unwrap();
        assert!(!inputs.contains(&14), "14");
        match inputs.contains(&13) {
            true => Err(io::Error::other("13")),
            false => Ok(inputs.iter().map(|input| input * 2).collect()),
        }
    }
}

struct Fixture {
    batcher: Batcher<Doubler>,
    readiness: Readiness,
    runs: mpsc::Receiver<Vec<u32>>,
    go: mpsc::Sender<()>,
}

impl Fixture {
    fn new(max_batch: usize, capacity: usize, window: Duration) -> Self {
        let (told, runs) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let readiness = Readiness::new();
        readiness.ready();
        let options = Options { stage: "decoder", max_batch, capacity, window };
        let model = Doubler { runs: told, go: gate };
        let batcher = Batcher::start(model, options, readiness.clone()).unwrap();
        Self { batcher, readiness, runs, go }
    }

    /// The inputs of the next run, which is let go.
    fn next_run(&self) -> Vec<u32> {
        self.go.send(()).unwrap();
        self.runs.recv_timeout(LONG).unwrap()
    }

    /// Occupies the thread with a run of `input`.
    fn occupy(&self, admission: &Admission<Doubler>, input: u32) -> Ticket<Doubler> {
        let ticket = admission.submit(job(input));
        assert_eq!(self.runs.recv_timeout(LONG).unwrap(), [input]);
        ticket
    }
}

fn job(input: u32) -> Job<u32> {
    Job { input, priority: Priority::Normal, deadline: None, span: Span::none() }
}

async fn within<T>(ticket: impl Future<Output = T>) -> T {
    timeout(LONG, ticket).await.unwrap()
}

#[tokio::test]
async fn jobs_of_several_requests_share_a_run_as_soon_as_it_is_full() {
    // The window would not end within the test.
    let fixture = Fixture::new(3, 8, 3 * LONG);
    let (one, two) = (fixture.batcher.admit().unwrap(), fixture.batcher.admit().unwrap());
    assert_eq!(fixture.batcher.admitted(), 2);
    let tickets = [one.submit(job(1)), two.submit(job(2)), two.submit(job(3))];
    assert_eq!(fixture.next_run(), [1, 2, 3]);
    for (ticket, output) in tickets.into_iter().zip([2, 4, 6]) {
        assert_eq!(within(ticket).await.unwrap(), output);
    }
    drop((one, two));
    assert_eq!(fixture.batcher.admitted(), 0);
}

#[tokio::test]
async fn a_lone_job_waits_no_longer_than_the_window() {
    let fixture = Fixture::new(64, 8, Duration::from_millis(2));
    let ticket = fixture.batcher.admit().unwrap().submit(job(5));
    assert_eq!(fixture.next_run(), [5]);
    assert_eq!(within(ticket).await.unwrap(), 10);
}

#[tokio::test]
async fn lanes_do_not_mix_and_high_priority_goes_first() {
    let fixture = Fixture::new(2, 8, Duration::ZERO);
    let admission = fixture.batcher.admit().unwrap();
    let first = fixture.occupy(&admission, 1);
    let high = |input| Job { priority: Priority::High, ..job(input) };
    let tickets = [job(2), job(101), high(3), high(102), high(4)].map(|job| admission.submit(job));
    assert_eq!(fixture.batcher.waiting(), 5);
    fixture.go.send(()).unwrap();
    let runs: Vec<_> = (0..3).map(|_| fixture.next_run()).collect();
    assert_eq!(runs, [vec![3, 4], vec![102, 101], vec![2]]);
    assert_eq!(within(first).await.unwrap(), 2);
    for ticket in tickets {
        within(ticket).await.unwrap();
    }
}

#[tokio::test]
async fn what_nobody_awaits_is_not_run() {
    let fixture = Fixture::new(8, 8, Duration::ZERO);
    let admission = fixture.batcher.admit().unwrap();
    let first = fixture.occupy(&admission, 1);
    let given_up = admission.submit(job(2));
    let late = admission.submit(Job { deadline: Some(Deadline::after(Duration::ZERO)), ..job(3) });
    let wanted = admission.submit(job(4));
    drop(given_up);
    assert_eq!(fixture.batcher.waiting(), 2);
    fixture.go.send(()).unwrap();
    assert_eq!(fixture.next_run(), [4]);
    assert_eq!(within(first).await.unwrap(), 2);
    assert_eq!(within(wanted).await.unwrap(), 8);
    let error = within(late).await.unwrap_err();
    assert_eq!(Status::from(error).code(), Code::DeadlineExceeded);
}

#[test]
fn more_requests_than_fit_are_told_when_to_come_back() {
    let fixture = Fixture::new(1, 2, Duration::ZERO);
    let admissions = [fixture.batcher.admit().unwrap(), fixture.batcher.admit().unwrap()];
    let Err(error) = fixture.batcher.admit() else { panic!("it is full") };
    let status = Status::from(error);
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "the decoder is busy with 2 requests"));
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    drop(admissions);
    assert!(fixture.batcher.admit().is_ok());
}

#[tokio::test]
async fn a_failed_run_fails_its_jobs_alone() {
    let fixture = Fixture::new(2, 8, Duration::ZERO);
    let admission = fixture.batcher.admit().unwrap();
    let failed = fixture.occupy(&admission, 13);
    fixture.go.send(()).unwrap();
    let error = within(failed).await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)));
    assert_eq!(Status::from(error).message(), "internal error");
    let next = admission.submit(job(2));
    assert_eq!(fixture.next_run(), [2]);
    assert_eq!(within(next).await.unwrap(), 4);
    assert!(fixture.readiness.is_ready());
}

#[tokio::test]
async fn a_panic_fails_its_jobs_and_ends_the_service() {
    let fixture = Fixture::new(1, 8, Duration::ZERO);
    let admission = fixture.batcher.admit().unwrap();
    let panicked = fixture.occupy(&admission, 14);
    let behind = admission.submit(job(2));
    fixture.go.send(()).unwrap();
    assert_eq!(Status::from(within(panicked).await.unwrap_err()).code(), Code::Internal);
    assert_eq!(Status::from(within(behind).await.unwrap_err()).code(), Code::Unavailable);
    let mut states = fixture.readiness.subscribe();
    let unready = State::Unready("the decoder's model panicked".into());
    within(states.wait_for(|state| *state == unready)).await.unwrap();
    assert!(matches!(within(admission.submit(job(3))).await, Err(Error::Stopped { .. })));
    assert!(matches!(fixture.batcher.admit(), Err(Error::Stopped { .. })));
}

#[tokio::test]
async fn stopping_finishes_the_run_and_drops_what_waits() {
    let fixture = Fixture::new(1, 8, Duration::ZERO);
    let admission = fixture.batcher.admit().unwrap();
    let running = fixture.occupy(&admission, 1);
    let waiting = admission.submit(job(2));
    fixture.go.send(()).unwrap();
    fixture.go.send(()).unwrap();
    fixture.batcher.stop();
    assert_eq!(within(running).await.unwrap(), 2);
    // It may have been taken up between the two.
    assert!(matches!(within(waiting).await, Ok(4) | Err(Error::Stopped { .. })));
}

/// Notes which spans follow from which.
struct Links(mpsc::Sender<(&'static str, &'static str)>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Links {
    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id: &Id| context.span(id).unwrap().name();
        self.0.send((name(span), name(follows))).unwrap();
    }
}

#[tokio::test]
async fn a_run_is_linked_to_the_requests_in_it() {
    let (sender, links) = mpsc::channel();
    tracing::subscriber::set_global_default(Registry::default().with(Links(sender))).unwrap();
    let fixture = Fixture::new(2, 8, LONG);
    let admission = fixture.batcher.admit().unwrap();
    let spans = [tracing::info_span!("one"), tracing::info_span!("two")];
    let tickets = spans.map(|span| admission.submit(Job { span, ..job(1) }));
    fixture.next_run();
    for ticket in tickets {
        within(ticket).await.unwrap();
    }
    let linked: Vec<_> = links.try_iter().collect();
    assert_eq!(linked, [("easel.run", "one"), ("easel.run", "two")]);
}
