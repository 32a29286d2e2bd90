//! A request of the contract, checked against a package: what passes can be drawn.

use std::collections::HashSet;

use easel_package::Manifest;
use easel_proto::v1::{GivenTokens, SampleRequest, SamplingParameters, TextTokens};

use crate::{
    engine::{Candidate, Request},
    logits::Parameters,
    stage::unconditional,
};

/// What is wrong with which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Its path, for example "given.positions\[3\]".
    pub(crate) field: String,
    /// What was expected and what was found.
    pub(crate) description: String,
}

/// Temperatures and guidance scales beyond this make no sense.
const MOST: f32 = 100.0;
const MOST_TOP_K: u32 = 1 << 31;

/// The request for the engine, with the package's defaults filled in.
///
/// # Errors
/// For the first field that cannot be used.
pub(crate) fn request(message: SampleRequest, manifest: &Manifest, most: usize) -> Result<Request, Invalid> {
    let candidates = candidates(&message, most)?;
    text("text_tokens", &message.text_tokens, manifest)?;
    let parameters = parameters(&message.parameters.unwrap_or_default(), manifest)?;
    let given = given(&message.given.unwrap_or_default(), manifest)?;
    let cells = manifest.grid.cells();
    if message.chunk_size as usize > cells {
        return invalid("chunk_size", format!("0 … {cells}"), message.chunk_size);
    }
    let chunk_size = match message.chunk_size {
        0 => manifest.grid.columns,
        size => size,
    };
    let text = manifest.text.pad(&message.text_tokens);
    Ok(Request {
        unconditional: other_row(message.negative_tokens.as_ref(), manifest, &parameters, &text)?,
        text,
        candidates,
        parameters,
        given,
        chunk_size: chunk_size as usize,
        deadline: None,
    })
}

fn candidates(message: &SampleRequest, most: usize) -> Result<Vec<Candidate>, Invalid> {
    let count = message.candidates.len();
    if !(1..=most).contains(&count) {
        return invalid("candidates", format!("1 … {most} of them"), count);
    }
    let mut ids = HashSet::with_capacity(count);
    let unique = |(i, candidate): (usize, &easel_proto::v1::sample_request::Candidate)| {
        if ids.insert(candidate.id) {
            Ok(Candidate { id: candidate.id, seed: candidate.seed })
        } else {
            invalid(format!("candidates[{i}].id"), "a number that no other candidate has", candidate.id)
        }
    };
    message.candidates.iter().enumerate().map(unique).collect()
}

fn text(field: &str, tokens: &[u32], manifest: &Manifest) -> Result<(), Invalid> {
    let (length, vocabulary) = (manifest.text.room(), manifest.text.vocabulary);
    if tokens.len() > length as usize {
        return invalid(field, format!("at most {length} of them"), tokens.len());
    }
    within(field, tokens, vocabulary)
}

/// Guidance's other row for a caption that is `padded`: the caller's, or the package's own; none: there is no guidance.
fn other_row(
    negative: Option<&TextTokens>,
    manifest: &Manifest,
    parameters: &Parameters,
    padded: &[u32],
) -> Result<Option<Vec<u32>>, Invalid> {
    let guided = parameters.guidance_scale != 1.0;
    match negative {
        None if guided => Ok(unconditional(manifest, padded)),
        None => Ok(None),
        Some(negative) if guided => {
            text("negative_tokens.ids", &negative.ids, manifest)?;
            Ok(Some(manifest.text.pad(&negative.ids)))
        }
        Some(negative) => invalid("negative_tokens", "none, as guidance_scale is 1", negative.ids.len()),
    }
}

fn parameters(message: &SamplingParameters, manifest: &Manifest) -> Result<Parameters, Invalid> {
    let defaults = &manifest.sampling;
    let temperature = message.temperature.unwrap_or(defaults.temperature);
    if !(0.0..=MOST).contains(&temperature) {
        return invalid("parameters.temperature", format!("0 … {MOST}"), temperature);
    }
    let top_k = message.top_k.unwrap_or(defaults.top_k);
    if top_k > MOST_TOP_K {
        return invalid("parameters.top_k", format!("0 … {MOST_TOP_K}"), top_k);
    }
    let top_p = message.top_p.unwrap_or(defaults.top_p);
    if !(top_p > 0.0 && top_p <= 1.0) {
        return invalid("parameters.top_p", "more than 0 and at most 1", top_p);
    }
    let guidance_scale = message.guidance_scale.unwrap_or(defaults.guidance_scale);
    if !(0.0..=MOST).contains(&guidance_scale) {
        return invalid("parameters.guidance_scale", format!("0 … {MOST}"), guidance_scale);
    }
    if guidance_scale != 1.0 && manifest.guidance.is_none() {
        return invalid("parameters.guidance_scale", "1, as the package has no guidance", guidance_scale);
    }
    Ok(Parameters { temperature, top_k, top_p, guidance_scale })
}

fn given(message: &GivenTokens, manifest: &Manifest) -> Result<Vec<(u32, u32)>, Invalid> {
    let cells = manifest.grid.cells();
    let GivenTokens { positions, tokens } = message;
    if tokens.len() >= cells {
        return invalid("given.tokens", format!("fewer than the {cells} cells of the grid"), tokens.len());
    }
    within("given.tokens", tokens, manifest.codebook)?;
    if positions.is_empty() {
        return Ok((0..).zip(tokens.iter().copied()).collect());
    }
    if positions.len() != tokens.len() {
        return invalid("given.positions", format!("one for each of {} tokens", tokens.len()), positions.len());
    }
    let mut next = 0;
    for (i, &position) in positions.iter().enumerate() {
        if position < next {
            return invalid(format!("given.positions[{i}]"), "more than the one before", position);
        }
        if position as usize >= cells {
            return invalid(format!("given.positions[{i}]"), format!("less than the {cells} cells"), position);
        }
        next = position + 1;
    }
    Ok(positions.iter().copied().zip(tokens.iter().copied()).collect())
}

/// Whether every id is below `count`.
fn within(field: &str, ids: &[u32], count: u32) -> Result<(), Invalid> {
    match ids.iter().position(|&id| id >= count) {
        None => Ok(()),
        Some(i) => invalid(format!("{field}[{i}]"), format!("less than {count}"), ids[i]),
    }
}

fn invalid<T>(
    field: impl Into<String>,
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), description: format!("expected {expected}, found {found}") })
}

#[cfg(test)]
mod tests;
