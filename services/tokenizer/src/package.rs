use std::fs;

use easel_package::{Manifest, Package};

use crate::Error;
use crate::vocabulary::Vocabulary;
use crate::words::Words;

/// What this stage has of a package.
pub(crate) struct Vocabularies {
    pub(crate) manifest: Manifest,
    /// None: the model reads no captions.
    pub(crate) sampler: Option<Vocabulary>,
    /// None: the package does not rank.
    pub(crate) ranker: Option<Vocabulary>,
    /// None: the package does not tell which words its model was taught.
    pub(crate) words: Option<Words>,
}

impl Vocabularies {
    /// Reads the vocabularies of `package`, holds them against its manifest and tries each.
    pub(crate) fn load(package: &Package) -> Result<Self, Error> {
        let manifest = package.manifest().clone();
        let text = &manifest.text;
        let sampler = text
            .tokenizer
            .as_ref()
            .map(|file| Vocabulary::load(&package.file(file)?, text.room(), text.vocabulary, text.template.as_ref()));
        let ranker = manifest.ranker.as_ref().map(|ranker| {
            let text = &ranker.text;
            Vocabulary::load(&package.file(&text.tokenizer)?, text.context_length, text.vocabulary, None)
        });
        let words = text.words.as_ref().map(|file| {
            let path = package.file(file)?;
            let list = fs::read_to_string(&path).map_err(|source| Error::Words { path, source })?;
            Ok::<_, Error>(Words::new(&list))
        });
        Ok(Self { sampler: sampler.transpose()?, ranker: ranker.transpose()?, words: words.transpose()?, manifest })
    }
}
