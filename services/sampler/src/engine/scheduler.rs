//! The owner thread's loop: continuous batching. Requests join and leave between steps, first come, first served.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Event, Failure, Options,
    batch::Batch,
    inbox::Inbox,
    job::Job,
    meters::{Meters, StepTime, sooner},
    run::{Drawer, Step},
};
use crate::{
    model::{self, Model},
    slots::Pool,
};

/// Bounds of what a refused caller is told to wait.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];

pub(super) struct Scheduler<M> {
    model: M,
    options: Options,
    inbox: Arc<Inbox>,
    /// A caption that the model can be probed with.
    caption: Vec<u32>,
    pool: Pool,
    /// Requests without rows, by arrival.
    waiting: Vec<Job>,
    /// Requests with a prefix, by arrival; only the last of those that are not paused may have candidates without rows.
    active: Vec<Job>,
    /// Requests that hold nothing any more, and whose callers are to hear of it.
    ended: Vec<Job>,
    batch: Batch,
    drawer: Drawer,
    meters: Meters,
    step_time: StepTime,
}

impl<M: Model> Scheduler<M> {
    pub(super) fn new(model: M, options: Options, inbox: Arc<Inbox>, caption: Vec<u32>, step: Duration) -> Self {
        Self {
            pool: Pool::new(options.rows),
            drawer: Drawer::new(&model.rules()),
            model,
            options,
            inbox,
            caption,
            waiting: Vec::new(),
            active: Vec::new(),
            ended: Vec::new(),
            batch: Batch::default(),
            meters: Meters::new(),
            step_time: StepTime::new(step),
        }
    }

    /// Works until it is told to stop and nothing is left.
    ///
    /// # Errors
    /// The model is of no use any more.
    pub(super) fn run(mut self) -> Result<(), model::Error> {
        loop {
            let stopping = self.inbox.take(&mut self.waiting);
            self.reap();
            self.admit();
            self.reap();
            // In this order: who hears that it was admitted finds room in the queue, and who hears of its end finds its rows free.
            self.publish();
            self.dismiss();
            self.announce();
            self.plan(None);
            if !self.batch.rows.is_empty() {
                self.advance()?;
                continue;
            }
            self.meters.pause();
            if stopping && self.active.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            self.inbox.wait(self.timer());
        }
    }

    /// Ends what is done, given up, too late, stalled or failed, and sends what found no room.
    fn reap(&mut self) {
        let now = Instant::now();
        for job in self.active.iter_mut().filter(|job| job.is_paused()) {
            job.outlet.flush();
        }
        let stall = self.options.stall_timeout;
        let over = |job: &mut Job| job.is_done() || is_over(job, now, stall);
        let waiting = self.waiting.extract_if(.., |job| is_over(job, now, stall));
        for mut job in self.active.extract_if(.., over).chain(waiting) {
            job.release(&mut self.pool);
            if job.unfinished() > 0 {
                self.meters.cancelled(job.unfinished());
            }
            self.ended.push(job);
        }
    }

    /// Gives the free rows away: first come, first served, and nobody overtakes but those who are paused.
    fn admit(&mut self) {
        for job in self.active.iter_mut().filter(|job| job.has_more()) {
            if !serve(job, &mut self.pool, &mut self.model, &mut self.drawer, &self.meters) {
                return;
            }
        }
        while let Some(job) = self.waiting.first_mut() {
            if self.pool.free() < 1 + usize::from(job.is_guided()) {
                return;
            }
            let Some(admitted) = job.admit(&mut self.pool, &mut self.model) else { return };
            let mut job = self.waiting.remove(0);
            settle_or_fail(&mut job, admitted);
            let satisfied = serve(&mut job, &mut self.pool, &mut self.model, &mut self.drawer, &self.meters);
            self.active.push(job);
            if !satisfied {
                return;
            }
        }
    }

    /// Tells those who ended.
    fn dismiss(&mut self) {
        for mut job in self.ended.drain(..) {
            let outcome = job.failure.take().map_or(Ok(()), Err);
            job.outlet.end(outcome);
        }
    }

    /// Tells those who were admitted, and those who wait where they stand.
    fn announce(&mut self) {
        self.active.iter_mut().for_each(|job| job.announce(self.pool.total()));
        let served = self.active.iter().filter(|job| job.has_more()).count() as u32;
        let mut work: u64 = self.active.iter().map(Job::outstanding).sum();
        for (ahead, job) in (served..).zip(&mut self.waiting) {
            if job.told != Some(ahead) {
                let estimated_wait = self.step_time.estimate(work, self.pool.total());
                if job.outlet.offer(Event::Queued { position: ahead, estimated_wait }) {
                    job.told = Some(ahead);
                }
            }
            work += job.outstanding();
        }
    }

    fn publish(&self) {
        let work = self.active.iter().map(Job::outstanding).sum();
        let [least, most] = RETRY;
        let retry_after = self.step_time.estimate(work, self.pool.total()).clamp(least, most);
        self.inbox.publish(self.waiting.len(), self.pool.used(), retry_after);
    }

    /// Collects the rows of the next step: of all requests that are not paused, or of one.
    fn plan(&mut self, only: Option<usize>) {
        self.batch.clear(self.options.step_rows);
        self.guess(only);
        for (index, job) in self.active.iter().enumerate() {
            if !job.is_paused() && job.failure.is_none() && only.is_none_or(|only| only == index) {
                job.plan(index, &mut self.batch);
            }
        }
    }

    /// Fills the rows up with guesses, where there are few.
    fn guess(&mut self, only: Option<usize>) {
        let most = self.options.guess_rows;
        if most == 0 || self.model.rewinds() == 0 {
            return;
        }
        let taking = |(index, job): &(usize, &mut Job)| !job.is_paused() && only.is_none_or(|only| only == *index);
        let jobs: Vec<&mut Job> = self.active.iter_mut().enumerate().filter(taking).map(|(_, job)| job).collect();
        let rows: usize = jobs.iter().map(|job| job.rows()).sum();
        let each = (most / rows.max(1)).saturating_sub(1).min(self.model.rewinds());
        jobs.into_iter().for_each(|job| job.guess(each));
    }

    /// Takes the step that was planned, and sees to what it brought.
    fn advance(&mut self) -> Result<(), model::Error> {
        let mut members: Vec<usize> = self.batch.feeds.iter().map(|feed| feed.job).collect();
        members.dedup();
        self.meters.members(members.iter().map(|&index| &self.active[index]));
        let mut lost = false;
        match self.step() {
            Ok(()) => {}
            // Nothing was done, because of one of them: each for itself.
            Err(model::Error::Refused(_)) if members.len() > 1 => {
                for &index in &members {
                    lost |= self.step_alone(index);
                }
            }
            Err(error) => lost = self.fail(&members, error),
        }
        let drawer = &mut self.drawer;
        for &index in &members {
            let job = &mut self.active[index];
            if job.failure.is_none() {
                let started = job.start(&mut self.model, drawer);
                note_start(job, started, &self.meters);
            }
            if job.failure.is_none() {
                job.settle(&mut self.pool);
            }
        }
        if lost { self.probe() } else { Ok(()) }
    }

    /// A step of one request; whether the model failed.
    fn step_alone(&mut self, index: usize) -> bool {
        self.plan(Some(index));
        self.step().is_err_and(|error| self.fail(&[index], error))
    }

    /// Runs the planned rows and hands the logits out. An error that concerns one request alone is put down there.
    fn step(&mut self) -> Result<(), model::Error> {
        let codebook = self.model.geometry().codebook;
        let rows = self.batch.rows.len();
        let started = Instant::now();
        let logits = guard(|| self.model.step(&self.batch.rows))?;
        let step = Step { started, ended: Instant::now(), rows };
        let expected = self.batch.asked() * codebook;
        if logits.len() != expected {
            return Err(model::Error::Shape { expected, found: logits.len() });
        }
        let (mut prefix, mut drawn) = (0, 0);
        for feed in &self.batch.feeds {
            let job = &mut self.active[feed.job];
            if job.failure.is_some() {
                continue;
            }
            match job.absorb(feed, &feed.logits(logits, codebook), &step, &mut self.drawer) {
                Ok(tokens) => drawn += tokens,
                Err(error) => job.fail(&Arc::new(error)),
            }
            prefix += if feed.run.is_none() { feed.count } else { 0 };
        }
        for feed in &self.batch.feeds {
            let job = &mut self.active[feed.job];
            if job.failure.is_none()
                && let Err(error) = job.rewind(feed, &mut self.model)
            {
                job.fail(&Arc::new(error));
            }
        }
        let took = step.ended - started;
        self.meters.step(took, rows);
        self.meters.tokens(prefix, drawn);
        if prefix == 0 {
            self.step_time.note(took);
        }
        Ok(())
    }

    /// Whether the model itself may be at fault.
    fn fail(&mut self, members: &[usize], error: model::Error) -> bool {
        tracing::error!(error = &error as &dyn std::error::Error, requests = members.len(), "a step failed");
        let refused = matches!(error, model::Error::Refused(_));
        let error = Arc::new(error);
        members.iter().for_each(|&index| self.active[index].fail(&error));
        !refused
    }

    /// After a failure: whether the model still works, tried on rows of those who failed.
    fn probe(&mut self) -> Result<(), model::Error> {
        self.reap();
        self.publish();
        self.dismiss();
        let Some(places) = self.pool.take_rows(false) else {
            return Ok(());
        };
        let place = places.conditional;
        self.pool.release(places);
        guard(|| model::probe(&mut self.model, place, &self.caption)).map(drop)
    }

    /// When something happens without anybody waking the thread.
    fn timer(&self) -> Option<Instant> {
        let stalls = self.active.iter().filter_map(|job| job.outlet.paused_since());
        let deadlines = self.active.iter().chain(&self.waiting).filter_map(|job| job.request.deadline);
        sooner(stalls.map(|since| since + self.options.stall_timeout).min(), deadlines.min())
    }
}

/// Whether a request ends before its time; the reason is put down, if anybody still wants to know.
fn is_over(job: &mut Job, now: Instant, stall: Duration) -> bool {
    if job.outlet.is_gone() || job.failure.is_some() {
        return true;
    }
    if job.request.deadline.is_some_and(|deadline| deadline <= now) {
        job.failure = Some(Failure::Deadline);
    } else if job.outlet.paused_since().is_some_and(|since| since + stall <= now) {
        job.failure = Some(Failure::Stalled(stall));
    }
    job.failure.is_some()
}

/// Gives rows to the next candidates of a request that is not paused; false: there are too few for the next.
fn serve<M: Model>(job: &mut Job, pool: &mut Pool, model: &mut M, drawer: &mut Drawer, meters: &Meters) -> bool {
    while job.has_more() && !job.is_paused() && job.failure.is_none() {
        let Some(places) = pool.take_rows(job.is_guided()) else {
            return false;
        };
        job.begin(places);
        let started = job.start(model, drawer);
        if note_start(job, started, meters) {
            job.settle(pool);
        }
    }
    true
}

/// Whether candidates were started.
fn note_start(job: &mut Job, started: Result<usize, model::Error>, meters: &Meters) -> bool {
    match started {
        Ok(0) => false,
        Ok(count) => {
            if job.is_first_draw() {
                meters.first_token(job.age());
            }
            meters.tokens(0, count);
            true
        }
        Err(error) => {
            settle_or_fail(job, Err(error));
            false
        }
    }
}

fn settle_or_fail(job: &mut Job, outcome: Result<(), model::Error>) {
    if let Err(error) = outcome {
        tracing::error!(error = &error as &dyn std::error::Error, "a sequence could not be begun");
        job.fail(&Arc::new(error));
    }
}

/// Runs the model; a panic is an error.
fn guard<T>(run: impl FnOnce() -> Result<T, model::Error>) -> Result<T, model::Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(model::Error::Panicked(message(&*panic))))
}

/// What a panic says.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "no message".to_owned())
}
