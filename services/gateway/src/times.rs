//! How long each stage worked for a request.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use easel_proto::v1::StageTime;

use crate::stages::Stage;

/// A request's clock, and a record for each stage.
#[derive(Debug)]
pub(crate) struct Times {
    began: Instant,
    records: Mutex<[Record; Stage::ALL.len()]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    first: Option<Duration>,
    last: Duration,
    busy: Duration,
    // Pieces of work that the stage has and has not answered.
    outstanding: u32,
    since: Option<Instant>,
}

impl Times {
    /// The request begins now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), records: Mutex::default() }
    }

    fn records(&self) -> MutexGuard<'_, [Record; Stage::ALL.len()]> {
        self.records.lock().expect("no one panics with it")
    }

    /// `stage` has a piece of work more.
    pub(crate) fn begin(&self, stage: Stage) {
        let record = &mut self.records()[stage as usize];
        if record.outstanding == 0 {
            record.since = Some(Instant::now());
        }
        record.outstanding += 1;
    }

    /// `stage` answered something.
    pub(crate) fn answer(&self, stage: Stage) {
        let elapsed = self.began.elapsed();
        let record = &mut self.records()[stage as usize];
        record.first.get_or_insert(elapsed);
        record.last = elapsed;
    }

    /// `stage` is done with a piece of work.
    pub(crate) fn end(&self, stage: Stage) {
        self.answer(stage);
        let record = &mut self.records()[stage as usize];
        record.outstanding = record.outstanding.saturating_sub(1);
        if record.outstanding == 0 {
            record.busy += record.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// Runs `work` as a piece of work of `stage`.
    pub(crate) async fn during<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        self.begin(stage);
        let done = work.await;
        self.end(stage);
        done
    }

    /// Time since the request began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long `stage` has been busy.
    pub(crate) fn busy(&self, stage: Stage) -> Duration {
        let record = self.records()[stage as usize];
        record.busy + record.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What is known of all stages, in the order of [`Stage::ALL`].
    pub(crate) fn report(&self) -> Vec<StageTime> {
        let of = |stage: Stage| {
            let record = self.records()[stage as usize];
            StageTime {
                stage: stage.name().to_owned(),
                first_seconds: record.first.unwrap_or_default().as_secs_f64(),
                last_seconds: record.last.as_secs_f64(),
                busy_seconds: self.busy(stage).as_secs_f64(),
            }
        };
        Stage::ALL.map(of).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_work_counts_once() {
        let times = Times::new();
        times.begin(Stage::Decoder);
        times.begin(Stage::Decoder);
        times.end(Stage::Decoder);
        times.answer(Stage::Decoder);
        times.end(Stage::Decoder);
        let report = &times.report()[Stage::Decoder as usize];
        assert_eq!(report.stage, "decoder");
        assert!(report.busy_seconds <= times.elapsed().as_secs_f64());
        assert!(report.first_seconds <= report.last_seconds);
        assert_eq!(times.report()[Stage::Ranker as usize].first_seconds, 0.0);
    }
}
