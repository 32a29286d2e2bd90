//! Spells plain English that the importer itself puts into a manifest, by a vocabulary of bytes.

use std::{collections::HashMap, path::Path};

use serde_json::Value;

use super::wrong;
use crate::Error;

/// Stands for a space.
const SPACE: char = 'Ġ';

/// What a character is of: a word, a number of its own, or signs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Sign,
}

/// The ids of `text`, of ASCII without digits behind spaces, in the byte-level `tokenizer` at `path`. All splits into words that are in use agree on such.
pub(crate) fn spell(path: &Path, tokenizer: &Value, text: &str) -> Result<Vec<u32>, Error> {
    let model = &tokenizer["model"];
    let pair = |merge: &Value| match merge {
        Value::String(pair) => pair.split_once(' ').map(|(a, b)| [a.to_owned(), b.to_owned()]),
        pair => Some([pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()]),
    };
    let merges = model["merges"].as_array().into_iter().flatten();
    let ranks: HashMap<[String; 2], usize> =
        merges.zip(0..).filter_map(|(merge, rank)| Some((pair(merge)?, rank))).collect();
    let mut ids = Vec::new();
    for word in words(text) {
        let mut pieces: Vec<String> = word.chars().map(String::from).collect();
        let best = |pieces: &[String]| {
            let ranked = pieces.windows(2).enumerate().filter_map(|(i, pair)| Some((ranks.get(pair)?, i)));
            ranked.min().map(|(_, i)| i)
        };
        while let Some(i) = best(&pieces) {
            let second = pieces.remove(i + 1);
            pieces[i].push_str(&second);
        }
        for piece in pieces {
            match model["vocab"][&piece].as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => ids.push(id),
                None => return wrong(path, format!("a piece {piece:?} in a vocabulary of bytes"), "none"),
            }
        }
    }
    Ok(ids)
}

/// Letters together and signs together, each with a space before them; digits alone.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut last): (Vec<String>, Option<Kind>) = (Vec::new(), None);
    for c in text.chars() {
        let kind = match c {
            ' ' => None,
            c if c.is_ascii_alphabetic() => Some(Kind::Letter),
            c if c.is_ascii_digit() => Some(Kind::Digit),
            _ => Some(Kind::Sign),
        };
        let behind_space = last.is_none() && !words.is_empty();
        let joins = kind.is_some() && (behind_space || last == kind) && kind != Some(Kind::Digit);
        let c = if c == ' ' { SPACE } else { c };
        match words.last_mut().filter(|_| joins) {
            Some(word) => word.push(c),
            None => words.push(c.into()),
        }
        last = kind;
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_keep_the_space_before_them_and_digits_are_alone() {
        assert_eq!(words("low res, bad!? no."), ["low", "Ġres", ",", "Ġbad", "!?", "Ġno", "."]);
        assert_eq!(words("90*8"), ["9", "0", "*", "8"]);
    }

    #[test]
    fn the_earliest_merges_come_first_and_letters_without_a_piece_are_refused() {
        let vocab = json!({"Ġ": 0, "a": 1, "b": 2, "ab": 3, "Ġa": 4, "Ġab": 5, "9": 6, "*": 7});
        let merges = json!(["a b", ["Ġ", "a"], "Ġ ab"]);
        let tokenizer = json!({"model": {"vocab": vocab, "merges": merges}});
        let spell = |text| spell(Path::new("tokenizer.json"), &tokenizer, text);
        assert_eq!(spell("ab aa ab").unwrap(), [3, 4, 1, 5]);
        assert_eq!(spell("9*9").unwrap(), [6, 7, 6]);
        assert!(
            spell("c")
                .unwrap_err()
                .to_string()
                .ends_with("expected a piece \"c\" in a vocabulary of bytes, found none")
        );
    }
}
