use std::time::Duration;

use easel_proto::v1::{self, image_prompt};

use crate::{Format, RankBy};

/// Which part of a given picture is drawn anew, in cells of the grid: always a rectangle that reaches the bottom-right corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Rows 0 … n − 1 are kept, the rest is drawn.
    KeepRows(u32),
    /// The rectangle from this cell to the bottom-right corner is drawn.
    RedrawFrom {
        /// From the top, counted from 0.
        row: u32,
        /// From the left, counted from 0.
        column: u32,
    },
}

/// What to draw and how. Whatever is left out takes the package's default; the gateway checks everything.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a request does nothing until Client::generate"]
pub struct Generate {
    pub(crate) message: v1::GenerateRequest,
    pub(crate) timeout: Option<Duration>,
}

impl Generate {
    /// Pictures of a caption.
    pub fn prompt(prompt: impl Into<String>) -> Self {
        v1::GenerateRequest { prompt: prompt.into(), ..Default::default() }.into()
    }

    /// Pictures of a caption that is given as tokens of the sampler's vocabulary: nothing is tokenized, and without [`caption`](Self::caption) CLIP
    /// ranks nothing.
    pub fn text_tokens(tokens: impl Into<Vec<u32>>) -> Self {
        v1::GenerateRequest { text_tokens: tokens.into(), ..Default::default() }.into()
    }

    /// With tokens given: the caption that CLIP ranks the pictures by.
    pub fn caption(mut self, prompt: impl Into<String>) -> Self {
        self.message.prompt = prompt.into();
        self
    }

    /// Name of the package to draw with; left out, the client's ([`Client::with_package`](crate::Client::with_package)) or the gateway's default.
    pub fn package(mut self, name: impl Into<String>) -> Self {
        self.message.package = name.into();
        self
    }

    /// How many pictures to draw; left out, one.
    pub fn candidates(mut self, candidates: u32) -> Self {
        self.message.candidates = candidates;
        self
    }

    /// How many of the best to send; left out, all.
    pub fn keep(mut self, keep: u32) -> Self {
        self.message.keep = keep;
        self
    }

    /// What orders the candidates; left out, CLIP where there is one.
    pub fn rank_by(mut self, by: RankBy) -> Self {
        self.message.rank_by = by.to_proto().into();
        self
    }

    /// Candidate i is drawn with seed + i (wrapping); left out, chosen at random and told in [`Event::Started`](crate::Event::Started).
    pub fn seed(mut self, seed: u64) -> Self {
        self.message.seed = Some(seed);
        self
    }

    /// Divides the logits; 0 is greedy.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.parameters().temperature = Some(temperature);
        self
    }

    /// Keeps the k most likely tokens; 0 keeps all.
    pub fn top_k(mut self, top_k: u32) -> Self {
        self.parameters().top_k = Some(top_k);
        self
    }

    /// Keeps the smallest set of tokens whose probability reaches p; 1 keeps all.
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.parameters().top_p = Some(top_p);
        self
    }

    /// Classifier-free guidance; 1 is none, and costs half.
    pub fn guidance_scale(mut self, guidance_scale: f32) -> Self {
        self.parameters().guidance_scale = Some(guidance_scale);
        self
    }

    /// What guidance leads away from, in the place of the package's own unconditional caption; needs guidance other than 1.
    pub fn negative_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.message.negative_prompt = prompt.into();
        self
    }

    /// A picture (PNG, JPEG or WebP) to complete or to change, and which part of it is drawn anew.
    pub fn image(mut self, image: impl Into<Vec<u8>>, region: Region) -> Self {
        let region = match region {
            Region::KeepRows(rows) => image_prompt::Region::KeepRows(rows),
            Region::RedrawFrom { row, column } => image_prompt::Region::RedrawFrom(v1::Cell { row, column }),
        };
        self.message.image = Some(v1::ImagePrompt { image: image.into(), region: Some(region) });
        self
    }

    /// How pictures and previews are encoded; left out, PNG.
    pub fn format(mut self, format: Format) -> Self {
        self.message.format = format.to_proto().into();
        self
    }

    /// JPEG quality, 1 … 100; left out, 90.
    pub fn quality(mut self, quality: u32) -> Self {
        self.message.quality = quality;
        self
    }

    /// At most so many previews of each picture, 0 … 64; left out, 4. A caller that takes events too slowly misses some.
    pub fn previews(mut self, previews: u32) -> Self {
        self.message.previews = Some(previews);
        self
    }

    /// The whole generation must be finished within this time; left out, the client's ([`Client::with_timeout`](crate::Client::with_timeout)).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn parameters(&mut self) -> &mut v1::SamplingParameters {
        self.message.parameters.get_or_insert_default()
    }
}

impl From<v1::GenerateRequest> for Generate {
    fn from(message: v1::GenerateRequest) -> Self {
        Self { message, timeout: None }
    }
}

impl From<&str> for Generate {
    fn from(prompt: &str) -> Self {
        Self::prompt(prompt)
    }
}
