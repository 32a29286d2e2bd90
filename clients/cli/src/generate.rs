use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use easel_client::{Event, Format, Outcome, RankBy, Region, Started};

use crate::gateway::{self, Gateway, Target};
use crate::{Error, output};

mod folder;
mod font;
mod record;
mod repeat;
mod sheet;
mod terminal;
mod view;

use folder::{Reserved, Written};
use record::Record;
use terminal::Terminal;
use view::View;

/// Previews per picture, where they are shown.
const PREVIEWS: u32 = 4;

/// Of JPEG, where none is asked for.
const QUALITY: u32 = 90;

/// Draw pictures of a caption: ranked files, a contact sheet and a record of everything in a folder
#[derive(Args)]
#[command(
    after_help = "Example: easel generate an armchair in the shape of an avocado --candidates 16 --keep 4 --seed 7"
)]
pub(crate) struct Generate {
    /// Caption; several words need no quotes. A model that reads no captions draws without one
    #[arg(value_name = "PROMPT")]
    prompt: Vec<String>,

    /// Caption as tokens of the sampler's vocabulary: nothing is tokenized; PROMPT, if there is one, is what CLIP ranks by
    #[arg(long, value_name = "ID,…", value_delimiter = ',', allow_hyphen_values = true)]
    text_tokens: Vec<u32>,

    /// How many pictures to draw
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,

    /// How many of the best to keep; left out, all
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,

    /// What orders the pictures; left out, CLIP where the package has it
    #[arg(long, value_enum, value_name = "ORDER")]
    rank_by: Option<Order>,

    /// Candidate i is drawn with seed S + i; left out, at random
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Format of the pictures
    #[arg(long, value_enum, default_value_t)]
    format: FileFormat,

    /// JPEG quality, 1 to 100; left out, 90
    #[arg(long, value_name = "Q", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100))]
    quality: Option<u32>,

    /// Folder for the pictures; left out, out/PROMPT-SEED. Pictures that a generation.json in it tells of are replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Write the record as JSON to standard output
    #[arg(long)]
    json: bool,

    /// Show no pictures in the terminal
    #[arg(long)]
    no_preview: bool,

    /// Give up after this time
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout_seconds: Option<f64>,

    #[command(flatten)]
    parameters: Parameters,

    #[command(flatten)]
    image: ImagePrompt,

    #[command(flatten)]
    pub(crate) target: Target,
}

/// How tokens are drawn.
#[derive(Args)]
#[command(next_help_heading = "Sampling (left out: the package's defaults)")]
struct Parameters {
    /// Divides the logits; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,

    /// Keeps the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<u32>,

    /// Keeps the smallest set of tokens whose probability reaches P; 1 keeps all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,

    /// Strength of the caption; 1 is none, and costs half
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: Option<f32>,

    /// What guidance leads away from; left out, the package's own: most often the empty caption
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
}

/// A picture to complete or to change.
#[derive(Args)]
#[command(next_help_heading = "Image prompt")]
struct ImagePrompt {
    /// Picture to complete or to change: PNG, JPEG or WebP
    #[arg(long, value_name = "FILE", requires = "region")]
    image: Option<PathBuf>,

    /// Keep rows 0 to R − 1 of the image-token grid and draw the rest
    #[arg(long, value_name = "R", allow_negative_numbers = true, requires = "image", group = "region")]
    keep_rows: Option<u32>,

    /// Draw the rectangle from this cell of the grid to the bottom-right corner
    #[arg(long, value_name = "ROW,COLUMN", requires = "image", group = "region", allow_hyphen_values = true, value_parser = cell)]
    redraw_from: Option<(u32, u32)>,
}

/// What orders the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// How near CLIP finds picture and caption
    Clip,
    /// How likely the model finds the picture, given the caption
    Likelihood,
    /// By how much the caption makes the picture likelier; with --guidance other than 1
    Gain,
    /// CLIP and gain (with --guidance 1, likelihood) alike
    Both,
}

impl From<Order> for RankBy {
    fn from(order: Order) -> Self {
        match order {
            Order::Clip => Self::Clip,
            Order::Likelihood => Self::Likelihood,
            Order::Gain => Self::CaptionGain,
            Order::Both => Self::Both,
        }
    }
}

/// How pictures are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    #[default]
    Png,
    Jpeg,
    Webp,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Png => Self::Png,
            FileFormat::Jpeg => Self::Jpeg,
            FileFormat::Webp => Self::Webp,
        }
    }
}

fn cell(text: &str) -> Result<(u32, u32), String> {
    let cell =
        text.split_once(',').and_then(|(row, column)| Some((row.trim().parse().ok()?, column.trim().parse().ok()?)));
    cell.ok_or_else(|| "expected ROW,COLUMN, for example 4,0".to_owned())
}

impl Generate {
    pub(crate) async fn run(self) -> Result<(), Error> {
        let terminal = if self.no_preview { Terminal::None } else { Terminal::detect() };
        self.check()?;
        let request = self.request(terminal)?;
        // Not after all was drawn.
        let _reserved = self.out.as_deref().map(Reserved::new).transpose()?;
        let gateway = self.target.open().await?;
        let mut view = View::new(terminal);
        let result = draw(&gateway, request, &mut view).await;
        view.finish();
        let outcome = result?;
        self.deliver(&outcome, terminal)?;
        gateway.close().await
    }

    fn check(&self) -> Result<(), Error> {
        if self.quality.is_some() && self.format != FileFormat::Jpeg {
            return Err(Error::Usage("--quality: only --format jpeg has one".to_owned()));
        }
        self.target.check()
    }

    fn quality(&self) -> u32 {
        self.quality.unwrap_or(QUALITY)
    }

    fn caption(&self) -> String {
        self.prompt.join(" ")
    }

    fn request(&self, terminal: Terminal) -> Result<easel_client::Generate, Error> {
        let mut request = match self.text_tokens.as_slice() {
            [] => easel_client::Generate::prompt(self.caption()),
            tokens => easel_client::Generate::text_tokens(tokens).caption(self.caption()),
        };
        request = request.candidates(self.candidates).keep(self.keep.unwrap_or(0));
        request = self.rank_by.map(RankBy::from).into_iter().fold(request, easel_client::Generate::rank_by);
        request = request.format(self.format.into()).quality(self.quality());
        request = request.previews(if terminal == Terminal::None { 0 } else { PREVIEWS });
        if let Some(seed) = self.seed {
            request = request.seed(seed);
        }
        let Parameters { temperature, top_k, top_p, guidance, .. } = self.parameters;
        request = temperature.into_iter().fold(request, easel_client::Generate::temperature);
        request = top_k.into_iter().fold(request, easel_client::Generate::top_k);
        request = top_p.into_iter().fold(request, easel_client::Generate::top_p);
        request = guidance.into_iter().fold(request, easel_client::Generate::guidance_scale);
        let negative = self.parameters.negative_prompt.iter();
        request = negative.fold(request, easel_client::Generate::negative_prompt);
        if let (Some(path), Some(region)) = (&self.image.image, self.image.region()) {
            let image = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            request = request.image(image, region);
        }
        let timeout: Option<Duration> = self.timeout_seconds.map(gateway::timeout).transpose()?;
        Ok(timeout.into_iter().fold(request, easel_client::Generate::timeout))
    }

    /// Writes the files and tells about them.
    fn deliver(&self, outcome: &Outcome, terminal: Terminal) -> Result<(), Error> {
        let dir = self.folder(&outcome.started);
        let command = repeat::command(self, &outcome.started);
        let written = Written::prepare(&dir, outcome)?;
        let record = Record::new(self, outcome, &written, &command);
        written.save(outcome, &record)?;
        if let Some(best) = outcome.pictures.first() {
            terminal.show(&best.image);
        }
        if self.json {
            return output::print_json(&record);
        }
        output::print(&told(outcome, &written, &dir, &command))
    }

    fn folder(&self, started: &Started) -> PathBuf {
        let seed = started.seeds.first().copied().unwrap_or_default();
        self.out.clone().unwrap_or_else(|| Path::new("out").join(format!("{}-{seed}", repeat::slug(&self.caption()))))
    }
}

impl ImagePrompt {
    fn region(&self) -> Option<Region> {
        let redraw = self.redraw_from.map(|(row, column)| Region::RedrawFrom { row, column });
        self.keep_rows.map(Region::KeepRows).or(redraw)
    }
}

async fn draw(gateway: &Gateway, request: easel_client::Generate, view: &mut View) -> Result<Outcome, Error> {
    let mut generation = gateway.client.generate(request).await?;
    while let Some(event) = generation.event().await? {
        if let Event::Started(started) = &event {
            warn(started, view);
        }
        view.show(&event);
    }
    Ok(generation.finish().await?)
}

fn warn(started: &Started, view: &View) {
    if !started.unknown_words.is_empty() {
        view.say(&output::untaught(&started.unknown_words, &started.nearest_words));
    }
    if started.truncated {
        let read = started.text_tokens.len();
        view.say(&format!(
            "the caption is longer than the model reads: what counts is its first {}",
            output::count(read, "token")
        ));
    }
    if started.negative_truncated {
        view.say("the negative prompt is longer than the model reads: its end does not count");
    }
}

/// The result for people.
fn told(outcome: &Outcome, written: &Written, dir: &Path, command: &str) -> String {
    let row = |(picture, file): (&easel_client::Picture, &String)| {
        let score = outcome.ranking.score(picture.candidate).map_or("-".to_owned(), |score| format!("{score:.3}"));
        vec![score, format!("seed {}", picture.seed), dir.join(file).display().to_string()]
    };
    let rows: Vec<Vec<String>> = outcome.pictures.iter().zip(&written.pictures).map(row).collect();
    let finished = &outcome.finished;
    let by = outcome.ranking.by.map_or_else(String::new, |by| format!(", ranked by {by}"));
    format!(
        "{}{}{by}, {} in {:.1} s ({:.0} tokens per second)\nsheet   {}\nrecord  {}\nagain   {command}\n",
        output::table(&rows),
        output::count(outcome.started.seeds.len(), "picture"),
        output::count(finished.tokens_drawn as usize, "token"),
        finished.total_seconds,
        finished.tokens_per_second,
        dir.join(folder::SHEET).display(),
        dir.join(folder::RECORD).display(),
    )
}
