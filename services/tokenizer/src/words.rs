//! Which words of a prompt a model was not taught.

use std::collections::HashSet;

/// The words that a model was taught, in lower case.
#[derive(Debug)]
pub(crate) struct Words(HashSet<String>);

impl Words {
    /// From a list with one word a line.
    pub(crate) fn new(list: &str) -> Self {
        Self(list.lines().map(str::trim).filter(|word| !word.is_empty()).map(str::to_lowercase).collect())
    }

    /// The words of `prompt` that are not among them, in lower case, each once, in order.
    ///
    /// A word is a run of letters, which may have apostrophes within; a known word with `'s` behind it is known.
    pub(crate) fn unknown(&self, prompt: &str) -> Vec<String> {
        let mut seen = HashSet::new();
        let prompt = prompt.to_lowercase().replace('’', "'");
        let words = prompt.split(|c: char| !c.is_alphabetic() && c != '\'').map(|word| word.trim_matches('\''));
        let unknown = words.filter(|word| !word.is_empty() && !self.knows(word));
        unknown.filter(|word| seen.insert(*word)).map(str::to_owned).collect()
    }

    fn knows(&self, word: &str) -> bool {
        let stem = word.strip_suffix("'s").unwrap_or(word);
        self.0.contains(word) || self.0.contains(stem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_come_once_in_order_and_lower_case() {
        let words = Words::new("a\nred\ncar\r\n\n  dog \nÉtoile\n");
        assert_eq!(words.unknown("A red car."), Vec::<String>::new());
        assert_eq!(words.unknown("A ZEBRA, a red xylophone — zebra!"), ["zebra", "xylophone"]);
        assert_eq!(words.unknown("the dog's 2 'red' ÉTOILE o’clock 車"), ["the", "o'clock", "車"]);
        assert_eq!(words.unknown("🥑 '' 123"), Vec::<String>::new());
    }
}
