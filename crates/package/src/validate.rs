//! What a manifest must satisfy before anything is loaded or allocated by it.

use std::{fmt::Display, ops::RangeInclusive, path::Path};

use crate::{Error, Guidance, Manifest, Padding};

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
        check.equal("encoder.preprocess.size.width", encoder.preprocess.size.width, m.image.width)?;
        check.equal("encoder.preprocess.size.height", encoder.preprocess.size.height, m.image.height)?;
    }
    check.ranker(m)
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
        self.listed("text.tokenizer", &text.tokenizer, m)?;
        if let Some(words) = &text.words {
            self.listed("text.words", words, m)?;
        }
        self.within("text.length", text.length, 1..=4096)?;
        self.within("text.vocabulary", text.vocabulary, 1..=1 << 24)?;
        let (field, last) = match text.padding {
            Padding::PerPosition { first_id } => ("text.padding.first_id", first_id.saturating_add(text.length - 1)),
            Padding::Token { id } => ("text.padding.id", id),
        };
        self.within(field, last, 0..=text.vocabulary - 1)
    }

    fn sampler(&self, m: &Manifest) -> Result<(), Error> {
        self.listed("sampler.graph", &m.sampler.graph, m)?;
        self.equal("sampler.contract", m.sampler.contract.as_str(), "easel.sampler/1")?;
        let attention = m.sampler.attention;
        self.within("sampler.attention.layers", attention.layers, 1..=1024)?;
        self.within("sampler.attention.heads", attention.heads, 1..=1024)?;
        self.within("sampler.attention.head_width", attention.head_width, 1..=1024)?;
        if let Some(Guidance::Tokens { ids }) = &m.guidance {
            self.within("guidance.ids", ids.len() as u32, 0..=m.text.length)?;
            let highest = ids.iter().copied().max().unwrap_or(0);
            self.within("guidance.ids", highest, 0..=m.text.vocabulary - 1)?;
        }
        Ok(())
    }

    fn sampling(&self, m: &Manifest) -> Result<(), Error> {
        let s = m.sampling;
        self.within("sampling.temperature", s.temperature, 0.0..=100.0)?;
        self.within("sampling.top_p", s.top_p, f32::MIN_POSITIVE..=1.0)?;
        self.within("sampling.guidance_scale", s.guidance_scale, 0.0..=100.0)?;
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
        self.within("ranker.logit_scale", ranker.logit_scale, f32::MIN_POSITIVE..=1e4)
    }
}
