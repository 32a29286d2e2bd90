//! What a manifest must satisfy before anything is loaded or allocated by it.

use std::{fmt::Display, ops::RangeInclusive, path::Path};

use crate::{CUDA_CONTRACT, Error, Guidance, Manifest, Padding, TextEncoder};

/// Ids before or behind a caption, or behind a row of the grid.
const MOST_ADDED: usize = 1024;

/// Checks every field against the bounds that the services rely on.
pub(crate) fn manifest(path: &Path, m: &Manifest) -> Result<(), Error> {
    let check = Check { path };
    check.equal("schema", m.schema, 1)?;
    check.name("name", &m.name)?;
    check.within("image.width", m.image.width, 1..=8192)?;
    check.within("image.height", m.image.height, 1..=8192)?;
    check.within("grid.rows", m.grid.rows, 1..=1024)?;
    check.within("grid.columns", m.grid.columns, 1..=1024)?;
    check.within("codebook", m.codebook, 2..=1 << 20)?;
    check.files(m)?;
    check.text(m)?;
    check.sampler(m)?;
    check.sampling(m)?;
    check.listed("decoder.graph", &m.decoder.graph, m)?;
    if let Some(encoder) = &m.encoder {
        check.listed("encoder.graph", &encoder.graph, m)?;
        check.within("encoder.preprocess.size.width", encoder.preprocess.size.width, 1..=8192)?;
        check.within("encoder.preprocess.size.height", encoder.preprocess.size.height, 1..=8192)?;
    }
    check.ranker(m)
}

/// Checks a package's name, as it is to stand in the manifest at `path`: 1 … 64 of a-z, 0-9, `.`, `_`, `-`.
///
/// # Errors
/// It is none.
pub fn check_name(path: &Path, name: &str) -> Result<(), Error> {
    Check { path }.name("name", name)
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn fail(&self, field: &str, expected: impl Display, found: impl Display) -> Result<(), Error> {
        Err(Error::Field {
            path: self.path.into(),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }

    fn equal<T: PartialEq + Display>(&self, field: &str, found: T, expected: T) -> Result<(), Error> {
        if found == expected { Ok(()) } else { self.fail(field, expected, found) }
    }

    fn within<T: PartialOrd + Display>(&self, field: &str, found: T, bounds: RangeInclusive<T>) -> Result<(), Error> {
        if bounds.contains(&found) {
            return Ok(());
        }
        self.fail(field, format_args!("{} … {}", bounds.start(), bounds.end()), found)
    }

    fn name(&self, field: &str, name: &str) -> Result<(), Error> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
            return Ok(());
        }
        self.fail(field, "1 … 64 of a-z, 0-9, '.', '_', '-'", format_args!("{name:?}"))
    }

    /// Every file lies in the package's own folder.
    fn files(&self, m: &Manifest) -> Result<(), Error> {
        let plain = |name: &str| Path::new(name).file_name().is_some_and(|n| n == name);
        match m.files.keys().find(|name| !plain(name)) {
            Some(name) => self.fail("files", "names without a folder", format_args!("{name:?}")),
            None => Ok(()),
        }
    }

    /// The manifest lists a file of this name.
    fn listed(&self, field: &str, name: &str, m: &Manifest) -> Result<(), Error> {
        if m.files.contains_key(name) {
            return Ok(());
        }
        self.fail(field, "the name of a file in \"files\"", format_args!("{name:?}"))
    }

    fn text(&self, m: &Manifest) -> Result<(), Error> {
        let text = &m.text;
        if let Some(words) = &text.words {
            self.listed("text.words", words, m)?;
        }
        self.within("text.length", text.length, 1..=4096)?;
        self.within("text.vocabulary", text.vocabulary, 1..=1 << 24)?;
        self.ids("text.prefix", &text.prefix, 0..=text.vocabulary - 1)?;
        self.ids("text.suffix", &text.suffix, 0..=text.vocabulary - 1)?;
        let added = (text.prefix.len() + text.suffix.len()) as u32;
        self.within("text.prefix and text.suffix (how many)", added, 0..=text.length)?;
        match &text.tokenizer {
            Some(tokenizer) => self.listed("text.tokenizer", tokenizer, m)?,
            None => self.equal("text.length (without a tokenizer, that of prefix and suffix)", text.length, added)?,
        }
        if let Some(template) = &text.template {
            let bytes = template.before.len() + template.after.len();
            self.within("text.template (bytes)", bytes, 0..=16 << 10)?;
        }
        let most = text.room().saturating_sub(1);
        let (field, last) = match text.padding {
            Padding::PerPosition { first_id } => ("text.padding.first_id", first_id.saturating_add(most)),
            Padding::Token { id } => ("text.padding.id", id),
            Padding::None => return Ok(()),
        };
        self.within(field, last, 0..=text.vocabulary - 1)
    }

    fn ids(&self, field: &str, ids: &[u32], bounds: RangeInclusive<u32>) -> Result<(), Error> {
        self.within(&format!("{field} (how many)"), ids.len(), 0..=MOST_ADDED)?;
        ids.iter().try_for_each(|id| self.within(field, *id, bounds.clone()))
    }

    fn sampler(&self, m: &Manifest) -> Result<(), Error> {
        self.listed("sampler.graph", &m.sampler.graph, m)?;
        let contract = m.sampler.contract.as_str();
        if !matches!(contract, "easel.sampler/1" | "easel.sampler/2" | CUDA_CONTRACT) {
            let expected = format_args!("easel.sampler/1, easel.sampler/2 or {CUDA_CONTRACT}");
            return self.fail("sampler.contract", expected, contract);
        }
        if contract == CUDA_CONTRACT && (m.sampler.shift.is_some() || m.sampler.text_encoder.is_some()) {
            let expected = "easel.sampler/2 (shift or text_encoder)";
            return self.fail("sampler.contract", expected, contract);
        }
        self.second_contract(m)?;
        if m.text.padding == Padding::None && m.text.prefix.is_empty() && m.text.suffix.is_empty() {
            return self.fail("text.prefix and text.suffix (without padding)", "at least one id", "none");
        }
        let attention = m.sampler.attention;
        self.within("sampler.attention.layers", attention.layers, 1..=1024)?;
        self.within("sampler.attention.heads", attention.heads, 1..=1024)?;
        self.within("sampler.attention.head_width", attention.head_width, 1..=1024)?;
        self.guidance(m)
    }

    /// What `easel.sampler/1` has not.
    fn second_contract(&self, m: &Manifest) -> Result<(), Error> {
        let (sampler, text) = (&m.sampler, &m.text);
        let ends = (sampler.row_end.len() as u32).max(1) - 1;
        self.ids("sampler.row_end", &sampler.row_end, m.codebook..=m.codebook.saturating_add(ends))?;
        if let Some(shift) = sampler.shift {
            self.within("sampler.shift.count", shift.count, 1..=4096)?;
            self.within("sampler.shift.width", shift.width, 2..=65536)?;
            self.equal("sampler.shift.width (a remainder of two)", shift.width % 2, 0)?;
        }
        if let Some(encoder) = &sampler.text_encoder {
            self.text_encoder(encoder, m)?;
        }
        let first = text.padding != Padding::None
            && sampler.row_end.is_empty()
            && sampler.shift.is_none()
            && sampler.text_encoder.is_none();
        if first || sampler.contract != "easel.sampler/1" {
            return Ok(());
        }
        let expected = "easel.sampler/2 (text.padding none, row_end, shift or text_encoder)";
        self.fail("sampler.contract", expected, &sampler.contract)
    }

    fn text_encoder(&self, encoder: &TextEncoder, m: &Manifest) -> Result<(), Error> {
        let text = &m.text;
        self.listed("sampler.text_encoder.graph", &encoder.graph, m)?;
        if text.padding != Padding::None {
            return self.fail("text.padding (with a text encoder)", "none", "another");
        }
        let lengths = match encoder.embedding_width {
            None => 1..=text.length - 1,
            Some(_) => text.length..=text.length,
        };
        self.within("sampler.text_encoder.length", encoder.length, lengths)?;
        self.within("sampler.text_encoder.embedding_width", encoder.embedding_width.unwrap_or(1), 1..=1 << 16)?;
        let own = (text.length - encoder.length) as usize;
        let known = text.prefix.len() + text.suffix.len();
        if text.suffix.len() < own || known <= own {
            let expected = format_args!("{own} for the decoder, and at least one for the encoder");
            return self.fail("text.prefix and text.suffix (how many)", expected, known);
        }
        Ok(())
    }

    fn guidance(&self, m: &Manifest) -> Result<(), Error> {
        match &m.guidance {
            None => Ok(()),
            Some(Guidance::Tokens { ids }) => {
                self.within("guidance.ids (how many)", ids.len() as u32, 0..=m.text.room())?;
                ids.iter().try_for_each(|id| self.within("guidance.ids", *id, 0..=m.text.vocabulary - 1))
            }
            Some(Guidance::Blank { id, first, last }) => {
                self.within("guidance.id", *id, 0..=m.text.vocabulary - 1)?;
                self.within("guidance.first", *first, 0..=m.text.length)?;
                self.within("guidance.last", *last, 0..=m.text.length)
            }
        }
    }

    fn sampling(&self, m: &Manifest) -> Result<(), Error> {
        let s = m.sampling;
        self.within("sampling.temperature", s.temperature, 0.0..=100.0)?;
        self.within("sampling.top_p", s.top_p, f32::MIN_POSITIVE..=1.0)?;
        self.within("sampling.guidance_scale", s.guidance_scale, 0.0..=100.0)?;
        self.within("sampling.guided_tokens", s.guided_tokens.unwrap_or(1), 1..=m.grid.cells() as u32)?;
        if m.guidance.is_none() {
            self.equal("sampling.guidance_scale (a model without guidance)", s.guidance_scale, 1.0)?;
        }
        Ok(())
    }

    fn ranker(&self, m: &Manifest) -> Result<(), Error> {
        let Some(ranker) = &m.ranker else { return Ok(()) };
        self.listed("ranker.image_graph", &ranker.image_graph, m)?;
        self.listed("ranker.text_graph", &ranker.text_graph, m)?;
        self.listed("ranker.text.tokenizer", &ranker.text.tokenizer, m)?;
        self.within("ranker.preprocess.size.width", ranker.preprocess.size.width, 1..=4096)?;
        self.within("ranker.preprocess.size.height", ranker.preprocess.size.height, 1..=4096)?;
        self.within("ranker.text.context_length", ranker.text.context_length, 2..=4096)?;
        self.within("ranker.text.vocabulary", ranker.text.vocabulary, 1..=1 << 24)?;
        self.within("ranker.text.pad", ranker.text.pad, 0..=ranker.text.vocabulary - 1)?;
        self.within("ranker.embedding_width", ranker.embedding_width, 1..=65536)?;
        if let Some(width) = ranker.layout_width {
            self.within("ranker.layout_width", width, 1..=ranker.embedding_width - 1)?;
        }
        self.within("ranker.logit_scale", ranker.logit_scale, f32::MIN_POSITIVE..=1e4)
    }
}
