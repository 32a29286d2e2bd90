//! What a caller asks for, checked: first by itself, then against the package. A field that cannot be is named.

use easel_proto::v1::image_prompt::Region;
use easel_proto::v1::{GenerateRequest, Grid, ImageFormat, Limits, Package, PackageRef, RankBy, SamplingParameters};
use easel_server::status::invalid;
use tonic::Status;

use crate::board::Shape;
use crate::packages;
use crate::picture::{Decoded, Encoding};
use crate::rank::Order;
use crate::region::Kept;
use crate::seeds;

/// Previews of a picture when the caller does not say.
const PREVIEWS: u32 = 4;
/// Previews that a caller may ask for.
const MAX_PREVIEWS: u32 = 64;
/// Largest temperature and guidance scale.
const MAX_SCALE: f32 = 100.0;

/// A drawing that can be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) package: Package,
    /// Empty when tokens were given alone, or the package reads no captions.
    pub(crate) prompt: String,
    /// Empty when the prompt has to be tokenized, or the package reads no captions.
    pub(crate) text_tokens: Vec<u32>,
    /// Empty: the package's own unconditional caption.
    pub(crate) negative_prompt: String,
    /// One for each candidate.
    pub(crate) seeds: Vec<u64>,
    /// How many pictures are sent.
    pub(crate) keep: usize,
    /// Every field set.
    pub(crate) parameters: SamplingParameters,
    /// What orders the candidates; none: nothing does.
    pub(crate) order: Option<Order>,
    pub(crate) image: Option<(Decoded, Kept)>,
    pub(crate) encoding: Encoding,
    pub(crate) previews: u32,
}

impl Plan {
    /// How the package is named to the stages.
    pub(crate) fn package_ref(&self) -> PackageRef {
        packages::reference(&self.package)
    }

    /// The package's grid.
    pub(crate) fn grid(&self) -> Grid {
        self.package.grid.unwrap_or_default()
    }

    /// Whether the prompt becomes text tokens for the sampler.
    pub(crate) fn tokenizes(&self) -> bool {
        self.text_tokens.is_empty() && reads_captions(&self.package)
    }

    /// Number of candidates.
    pub(crate) fn candidates(&self) -> u32 {
        self.seeds.len() as u32
    }

    /// Whether CLIP scores the candidates: there is a caption, and the package can. They may be ordered by something else.
    pub(crate) fn scores(&self) -> bool {
        self.package.ranking && !self.prompt.is_empty()
    }

    /// What is known of the pictures before they are drawn.
    pub(crate) fn shape(&self) -> Shape {
        let grid = self.grid();
        Shape {
            cells: grid.rows * grid.columns,
            given: self.image.as_ref().map_or(0, |(_, kept)| kept.len() as u32),
            width: self.package.image_width,
            height: self.package.image_height,
            scored: self.scores(),
            order: self.order,
        }
    }

    /// Tokens between two previews; 0: none are wanted.
    pub(crate) fn preview_every(&self) -> u32 {
        match self.previews {
            0 => 0,
            previews => self.shape().cells.div_ceil(previews + 1),
        }
    }

    /// Tokens of a chunk: a row of the grid, or fewer where previews are to come more often; 0: the sampler's default.
    pub(crate) fn chunk_size(&self) -> u32 {
        self.preview_every().min(self.grid().columns)
    }
}

/// Checks all that can be told from the request alone.
pub(crate) fn check(request: &GenerateRequest, limits: &Limits) -> Result<(), Status> {
    check_caption(request, limits)?;
    let GenerateRequest { candidates, keep, quality, .. } = *request;
    if !(1..=limits.max_candidates).contains(&candidates) {
        return Err(invalid("candidates", format!("expected 1 to {}, found {candidates}", limits.max_candidates)));
    }
    if keep > candidates {
        return Err(invalid("keep", format!("expected at most candidates ({candidates}), found {keep}")));
    }
    if quality > 100 {
        return Err(invalid("quality", format!("expected at most 100, found {quality}")));
    }
    if ImageFormat::try_from(request.format).is_err() {
        return Err(invalid("format", format!("expected one of ImageFormat, found {}", request.format)));
    }
    if RankBy::try_from(request.rank_by).is_err() {
        return Err(invalid("rank_by", format!("expected one of RankBy, found {}", request.rank_by)));
    }
    if let Some(previews) = request.previews.filter(|&previews| previews > MAX_PREVIEWS) {
        return Err(invalid("previews", format!("expected at most {MAX_PREVIEWS}, found {previews}")));
    }
    request.parameters.as_ref().map_or(Ok(()), check_parameters)?;
    request.image.as_ref().map_or(Ok(()), |image| match image.image.len() {
        0 => Err(invalid("image.image", "is empty")),
        bytes if bytes > limits.max_image_bytes as usize => {
            Err(invalid("image.image", format!("expected at most {} bytes, found {bytes}", limits.max_image_bytes)))
        }
        _ => Ok(()),
    })
}

/// Whether there must be a caption is for the package to say.
fn check_caption(request: &GenerateRequest, limits: &Limits) -> Result<(), Status> {
    let texts = [("prompt", &request.prompt), ("negative_prompt", &request.negative_prompt)];
    texts.into_iter().filter(|(_, text)| !text.is_empty()).try_for_each(|(field, text)| check_text(field, text, limits))
}

/// Checks a text that the caller wrote in `field`.
pub(crate) fn check_text(field: &str, text: &str, limits: &Limits) -> Result<(), Status> {
    if text.trim().is_empty() {
        return Err(invalid(field, "is empty"));
    }
    if text.len() > limits.max_prompt_bytes as usize {
        let reason = format!("expected at most {} bytes, found {}", limits.max_prompt_bytes, text.len());
        return Err(invalid(field, reason));
    }
    Ok(())
}

fn check_parameters(parameters: &SamplingParameters) -> Result<(), Status> {
    let scales =
        [("parameters.temperature", parameters.temperature), ("parameters.guidance_scale", parameters.guidance_scale)];
    for (field, value) in scales {
        if let Some(value) = value
            && !(0.0..=MAX_SCALE).contains(&value)
        {
            return Err(invalid(field, format!("expected 0 to {MAX_SCALE}, found {value}")));
        }
    }
    match parameters.top_p {
        Some(top_p) if !(top_p > 0.0 && top_p <= 1.0) => {
            Err(invalid("parameters.top_p", format!("expected more than 0 and at most 1, found {top_p}")))
        }
        _ => Ok(()),
    }
}

/// What a request leaves open, filled in from its package.
pub(crate) struct Fit {
    pub(crate) parameters: SamplingParameters,
    pub(crate) order: Option<Order>,
    /// Of the picture, which is still to be decoded, if there is one.
    pub(crate) kept: Option<Kept>,
}

/// Checks what depends on the package; `request` has passed [`check`].
pub(crate) fn fit(request: &GenerateRequest, package: &Package) -> Result<Fit, Status> {
    fit_caption(request, package)?;
    check_tokens(&request.text_tokens, package)?;
    let parameters = complete(request.parameters.unwrap_or_default(), package)?;
    if !request.negative_prompt.is_empty() && parameters.guidance_scale() == 1.0 {
        return Err(invalid("negative_prompt", "needs a guidance_scale other than 1"));
    }
    let order = order(request, package, &parameters)?;
    let kept = match &request.image {
        None => None,
        Some(_) if !package.image_prompts => return Err(invalid("image", "the package takes no pictures")),
        Some(image) => Some(kept(image.region, package)?),
    };
    Ok(Fit { parameters, order, kept })
}

/// A caption, unless the package reads none; then one may only be there to rank by.
fn fit_caption(request: &GenerateRequest, package: &Package) -> Result<(), Status> {
    let (reads, prompt) = (reads_captions(package), !request.prompt.is_empty());
    match (reads, prompt) {
        (true, false) if request.text_tokens.is_empty() => Err(invalid("prompt", "is empty")),
        (false, true) if !package.ranking => Err(invalid("prompt", "the package reads no captions")),
        _ => Ok(()),
    }
}

/// Whether the model of the package is told what to draw.
fn reads_captions(package: &Package) -> bool {
    package.text_length > 0
}

fn order(
    request: &GenerateRequest,
    package: &Package,
    parameters: &SamplingParameters,
) -> Result<Option<Order>, Status> {
    let clip = package.ranking && !request.prompt.is_empty();
    let guided = parameters.guidance_scale() != 1.0;
    let order = Order::of(request.rank_by(), clip, guided).map_err(|reason| invalid("rank_by", reason))?;
    match order {
        None if request.keep > 0 && package.ranking => Err(invalid("keep", "needs a prompt to rank by, or rank_by")),
        None if request.keep > 0 => Err(invalid("keep", "needs a package that ranks, or rank_by")),
        order => Ok(order),
    }
}

fn kept(region: Option<Region>, package: &Package) -> Result<Kept, Status> {
    let grid = package.grid.unwrap_or_default();
    Kept::new(region, grid).map_err(|refusal| invalid(format!("image.{}", refusal.field), refusal.reason))
}

fn check_tokens(tokens: &[u32], package: &Package) -> Result<(), Status> {
    if tokens.len() > package.text_length as usize {
        let reason = format!("expected at most {} tokens, found {}", package.text_length, tokens.len());
        return Err(invalid("text_tokens", reason));
    }
    match tokens.iter().position(|&token| token >= package.text_vocabulary_size) {
        Some(index) => {
            let reason = format!("expected less than {}, found {}", package.text_vocabulary_size, tokens[index]);
            Err(invalid(format!("text_tokens[{index}]"), reason))
        }
        None => Ok(()),
    }
}

/// `given` with the package's defaults where it is unset.
fn complete(given: SamplingParameters, package: &Package) -> Result<SamplingParameters, Status> {
    let defaults = package.defaults.unwrap_or_default();
    let parameters = SamplingParameters {
        temperature: given.temperature.or(defaults.temperature).or(Some(1.0)),
        top_k: given.top_k.or(defaults.top_k).or(Some(0)),
        top_p: given.top_p.or(defaults.top_p).or(Some(1.0)),
        guidance_scale: given.guidance_scale.or(defaults.guidance_scale).or(Some(1.0)),
    };
    if let Some(top_k) = given.top_k.filter(|&top_k| top_k > package.codebook_size) {
        return Err(invalid("parameters.top_k", format!("expected at most {}, found {top_k}", package.codebook_size)));
    }
    if parameters.guidance_scale() != 1.0 && !package.guidance {
        let reason = format!("the package knows no guidance: expected 1, found {}", parameters.guidance_scale());
        return Err(invalid("parameters.guidance_scale", reason));
    }
    Ok(parameters)
}

/// The plan for a request that has passed [`check`] and [`fit`].
pub(crate) fn plan(
    request: GenerateRequest,
    package: Package,
    parameters: SamplingParameters,
    order: Option<Order>,
    image: Option<(Decoded, Kept)>,
) -> Plan {
    let format = request.format();
    Plan {
        encoding: Encoding::new(format, request.quality as u8),
        seeds: seeds::of(request.seed, request.candidates),
        keep: if request.keep == 0 { request.candidates } else { request.keep } as usize,
        previews: request.previews.unwrap_or(PREVIEWS),
        prompt: request.prompt,
        text_tokens: request.text_tokens,
        negative_prompt: request.negative_prompt,
        package,
        parameters,
        order,
        image,
    }
}
