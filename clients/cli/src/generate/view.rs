//! Progress while a generation runs: a bar per stage on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::Instant;

use easel_client::{Event, Picture, Progress, Queued, Started};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::terminal::{self, Terminal};
use crate::{output, progress};

/// What standard error shows.
pub(super) enum View {
    Bars(Box<Bars>),
    Lines(Lines),
}

impl View {
    pub(super) fn new(terminal: Terminal) -> Self {
        match io::stderr().is_terminal() {
            true => Self::Bars(Box::new(Bars::new(terminal))),
            false => Self::Lines(Lines::default()),
        }
    }

    pub(super) fn show(&mut self, event: &Event) {
        match self {
            Self::Bars(bars) => bars.show(event),
            Self::Lines(lines) => lines.show(event),
        }
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        let text = output::visible(text);
        match self {
            Self::Bars(bars) => bars.all.suspend(|| eprintln!("{text}")),
            Self::Lines(_) => eprintln!("{text}"),
        }
    }

    /// Leaves the bars as they are and takes the preview away.
    pub(super) fn finish(self) {
        if let Self::Bars(bars) = self {
            bars.preview.finish_and_clear();
            for bar in [&bars.tokenizer, &bars.sampler, &bars.decoder, &bars.ranker] {
                bar.abandon();
            }
        }
    }
}

/// Tokens of each candidate.
#[derive(Default)]
struct Tokens {
    done: Vec<u32>,
    total: u64,
}

impl Tokens {
    fn new(started: &Started) -> Self {
        let candidates = started.seeds.len();
        let cells = u64::from(started.grid.rows) * u64::from(started.grid.columns);
        Self { done: vec![started.given_tokens; candidates], total: cells * candidates as u64 }
    }

    fn add(&mut self, progress: &Progress) {
        if let Some(done) = self.done.get_mut(progress.candidate as usize) {
            *done = progress.tokens_done;
        }
    }

    fn done(&self) -> u64 {
        self.done.iter().copied().map(u64::from).sum()
    }
}

/// A bar per stage.
pub(super) struct Bars {
    all: MultiProgress,
    preview: ProgressBar,
    tokenizer: ProgressBar,
    sampler: ProgressBar,
    decoder: ProgressBar,
    ranker: ProgressBar,
    terminal: Terminal,
    tokens: Tokens,
    /// When drawing began, and with how many tokens.
    begin: (Instant, u64),
}

impl Bars {
    fn new(terminal: Terminal) -> Self {
        let all = MultiProgress::new();
        let plain = ProgressStyle::with_template("{msg}").expect("the template is well-formed");
        let preview = all.add(ProgressBar::no_length().with_style(plain));
        let bar = |name: &'static str| {
            all.add(ProgressBar::new(1).with_prefix(name).with_style(progress::style("{pos}/{len} {msg}")))
        };
        let (tokenizer, sampler) = (bar("tokenizer"), bar("sampler"));
        let (decoder, ranker) = (bar("decoder"), bar("ranker"));
        for bar in [&tokenizer, &sampler, &decoder, &ranker] {
            bar.tick();
        }
        let begin = (Instant::now(), 0);
        Self { all, preview, tokenizer, sampler, decoder, ranker, terminal, tokens: Tokens::default(), begin }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Queued(queued) => self.sampler.set_message(waiting(queued).unwrap_or_default()),
            Event::Started(started) => self.started(started),
            Event::Progress(progress) => self.progress(progress),
            Event::Preview(preview) if preview.candidate == 0 && self.terminal != Terminal::None => {
                self.preview.set_message(terminal::lines(&preview.image).unwrap_or_default());
            }
            Event::Picture(picture) => self.picture(picture),
            Event::Ranking(ranking) => {
                // With --keep, only the best pictures are sent, but all were drawn and scored.
                self.decoder.set_position(self.tokens.done.len() as u64);
                let scored = ranking.entries.iter().filter(|ranked| ranked.clip_score.is_some()).count();
                self.ranker.set_position(scored as u64);
                match ranking.by {
                    Some(by) => self.ranker.set_message(format!("scores, ranked by {by}")),
                    None => self.ranker.set_message("nothing to rank by"),
                }
            }
            _ => {}
        }
    }

    fn started(&mut self, started: &Started) {
        self.tokens = Tokens::new(started);
        self.begin = (Instant::now(), self.tokens.done());
        self.tokenizer.set_position(1);
        self.tokenizer.set_message(output::count(started.text_tokens.len(), "token"));
        self.sampler.set_length(self.tokens.total);
        self.sampler.set_message("tokens");
        let candidates = started.seeds.len() as u64;
        self.decoder.set_length(candidates);
        self.decoder.set_message("pictures");
        self.ranker.set_length(candidates);
        self.ranker.set_message("scores");
    }

    fn progress(&mut self, progress: &Progress) {
        self.tokens.add(progress);
        let (begin, given) = self.begin;
        let done = self.tokens.done();
        let rate = done.saturating_sub(given) as f64 / begin.elapsed().as_secs_f64().max(f64::EPSILON);
        self.sampler.set_position(done);
        self.sampler.set_message(format!("tokens, {rate:.0} per second"));
    }

    fn picture(&self, picture: &Picture) {
        self.decoder.inc(1);
        if picture.clip_score.is_some() {
            self.ranker.inc(1);
        }
    }
}

/// A line now and then.
#[derive(Default)]
pub(super) struct Lines {
    tokens: Tokens,
    quarters: u64,
    pictures: usize,
}

impl Lines {
    fn show(&mut self, event: &Event) {
        match event {
            Event::Queued(queued) => waiting(queued).into_iter().for_each(|line| eprintln!("{line}")),
            Event::Started(started) => {
                self.tokens = Tokens::new(started);
                let pictures = output::count(started.seeds.len(), "picture");
                let tokens = output::count(started.text_tokens.len(), "text token");
                eprintln!("{} draws {pictures} from {tokens}", output::visible(&started.package.name));
            }
            Event::Progress(progress) => {
                self.tokens.add(progress);
                let (done, total) = (self.tokens.done(), self.tokens.total.max(1));
                let quarters = done * 4 / total;
                if quarters > self.quarters {
                    self.quarters = quarters;
                    eprintln!("{done} of {}", output::count(total as usize, "token"));
                }
            }
            Event::Picture(picture) => {
                self.pictures += 1;
                let score = picture.clip_score.map_or(String::new(), |score| format!(", clip score {score:.3}"));
                eprintln!("picture {}: seed {}{score}", self.pictures, picture.seed);
            }
            _ => {}
        }
    }
}

/// What to say of a wait; nothing of one that is over at once.
fn waiting(queued: &Queued) -> Option<String> {
    let Queued { position, estimated_wait_seconds } = queued;
    let before = output::count(*position as usize, "request");
    let line = format!("waiting: {before} before this one, about {estimated_wait_seconds:.0} s");
    (*position > 0 || *estimated_wait_seconds >= 1.0).then_some(line)
}
