//! Which words of a prompt a model was not taught.

use std::collections::{BTreeSet, HashSet};

mod spelling;

/// For so many words the nearest is looked for.
const NEAREST: usize = 16;

/// The words that a model was taught, in lower case.
#[derive(Debug)]
pub(crate) struct Words(BTreeSet<String>);

/// A word that the model was not taught.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// In lower case.
    pub(crate) word: String,
    /// The one that it was taught whose spelling is nearest; empty: none is near.
    pub(crate) nearest: String,
}

impl Words {
    /// From a list with one word a line.
    pub(crate) fn new(list: &str) -> Self {
        Self(list.lines().map(str::trim).filter(|word| !word.is_empty()).map(str::to_lowercase).collect())
    }

    /// The words of `prompt` that are not among them, each once, in order.
    ///
    /// A word is a run of letters, which may have apostrophes and digits within, or a pictograph; what begins with a digit is a number, and only a word where
    /// numbers are taught. A known word
    /// with `'s` behind it is known, and so are the parts of a known word with a hyphen.
    pub(crate) fn unknown(&self, prompt: &str) -> Vec<Unknown> {
        let prompt = prompt.to_lowercase().replace(['’', 'ʼ'], "'");
        let mut seen = HashSet::new();
        let mut unknown: Vec<Unknown> = Vec::new();
        for run in runs(&prompt) {
            let whole = run.trim_matches('-');
            if self.0.contains(whole) {
                continue;
            }
            for word in whole.split('-').map(|word| word.trim_matches('\'')) {
                let number = word.starts_with(char::is_numeric);
                if word.is_empty() || (number && !self.counts()) || self.knows(word) || !seen.insert(word) {
                    continue;
                }
                let nearest = if !number && unknown.len() < NEAREST { spelling::nearest(word, &self.0) } else { None };
                unknown.push(Unknown { word: word.to_owned(), nearest: nearest.unwrap_or_default().to_owned() });
            }
        }
        unknown
    }

    /// Whether numbers are among them.
    fn counts(&self) -> bool {
        self.0.iter().any(|word| word.chars().all(char::is_numeric))
    }

    fn knows(&self, word: &str) -> bool {
        let stem = word.strip_suffix("'s").unwrap_or(word);
        self.0.contains(word) || self.0.contains(stem)
    }
}

/// The prompt's words, those with hyphens whole, and its pictographs one by one.
fn runs(prompt: &str) -> impl Iterator<Item = &str> {
    prompt.split(|c: char| !is_part(c)).flat_map(|run| {
        // In front of a pictograph and behind it.
        let bounds = run.char_indices().filter(|(_, c)| is_pictograph(*c)).flat_map(|(at, c)| [at, at + c.len_utf8()]);
        let bounds = bounds.chain([run.len()]);
        bounds.scan(0, move |start, end| Some(&run[std::mem::replace(start, end)..end]))
    })
}

fn is_part(c: char) -> bool {
    let mark = matches!(c, '\u{300}'..='\u{36f}');
    c.is_alphanumeric() || matches!(c, '\'' | '-') || mark || is_pictograph(c)
}

/// Emoji and other small pictures, as far as blocks of Unicode hold them; without the quotation marks and brackets among the dingbats.
fn is_pictograph(c: char) -> bool {
    let punctuation = matches!(c, '\u{275b}'..='\u{2760}' | '\u{2768}'..='\u{2775}');
    !punctuation
        && matches!(c, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1f0ff}' | '\u{1f300}'..='\u{1f3fa}' | '\u{1f400}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(words: &Words, prompt: &str) -> Vec<String> {
        words.unknown(prompt).into_iter().map(|unknown| unknown.word).collect()
    }

    #[test]
    fn unknown_words_come_once_in_order_and_lower_case() {
        let words = Words::new("a\nred\ncar\r\n\n  dog \nÉtoile\n");
        assert_eq!(unknown(&words, "A red car."), Vec::<String>::new());
        assert_eq!(unknown(&words, "A ZEBRA, a red xylophone — zebra!"), ["zebra", "xylophone"]);
        assert_eq!(unknown(&words, "the dog's 2 'red' ÉTOILE o’clock 車"), ["the", "o'clock", "車"]);
    }

    #[test]
    fn numbers_and_punctuation_are_not_words() {
        let words = Words::new("a\nred\ncar\nstyle");
        for prompt in [
            "",
            "'' 123 - -- … ?! « » “red” (car); 3.5 1,000 5% #1 @ & * / \\ _ ~ $ € × ² ½",
            "2nd 1980s 3d 16x16 ❶ ❝red❞",
        ] {
            assert_eq!(unknown(&words, prompt), Vec::<String>::new(), "{prompt:?}");
        }
        assert_eq!(unknown(&words, "a b52, red2"), ["b52", "red2"]);
    }

    #[test]
    fn a_number_is_a_word_where_numbers_are_taught() {
        let words = Words::new("0\n1\n2");
        assert_eq!(unknown(&words, "1, 207, 3; dog"), ["207", "3", "dog"]);
        assert!(words.unknown("207 13").iter().all(|unknown| unknown.nearest.is_empty()));
    }

    #[test]
    fn a_hyphen_joins_words_that_are_known_or_not_each_by_itself() {
        let words = Words::new("close\nup\nt-shirt");
        assert_eq!(unknown(&words, "close-up -up T-shirt, t-shirts, close-fitting"), ["t", "shirts", "fitting"]);
    }

    #[test]
    fn a_pictograph_is_a_word_of_its_own() {
        let words = Words::new("red\n🦊");
        assert_eq!(unknown(&words, "red🥑🥑 🦊☀\u{fe0f} red👍🏽"), ["🥑", "☀", "👍"]);
    }

    #[test]
    fn a_word_comes_with_the_nearest_that_was_taught() {
        let words = Words::new("penguin\npenguins\numbrella\ncat");
        let nearest = |prompt: &str| words.unknown(prompt).pop().map(|unknown| unknown.nearest);
        assert_eq!(nearest("PEGUIN"), Some("penguin".to_owned()));
        assert_eq!(nearest("a zebra"), Some(String::new()));
        let many = (0..100).map(|i| format!("cat{i}")).collect::<Vec<_>>().join(" ");
        let found = words.unknown(&many);
        assert_eq!((found.len(), found.iter().filter(|unknown| !unknown.nearest.is_empty()).count()), (100, 10));
    }
}
