//! Words that are spelled alike.

use std::collections::BTreeSet;

/// Longer words are not looked at: they cost more, and are no slips.
const LETTERS: usize = 32;

/// The word of `taught` that becomes `word` by the fewest slips (a letter left out, put in, put for another, or two swapped): one at most, from six letters
/// on two. The first letter is seldom a slip, and has to be right or swapped with the second. The first of the alphabet among equals.
pub(super) fn nearest<'a>(word: &str, taught: &'a BTreeSet<String>) -> Option<&'a str> {
    let letters: Vec<char> = word.chars().take(LETTERS + 1).collect();
    let most = match letters.len() {
        3..=5 => 1,
        6..=LETTERS => 2,
        _ => return None,
    };
    let near = taught.iter().filter_map(|taught| {
        let other: Vec<char> = taught.chars().take(LETTERS + 1).collect();
        let begins_alike = other.first() == letters.first() || other.get(..2) == Some(&[letters[1], letters[0]]);
        if !begins_alike || letters.len().abs_diff(other.len()) > most {
            return None;
        }
        let slips = slips(&letters, &other);
        (slips <= most).then_some((slips, taught.as_str()))
    });
    near.min().map(|(_, taught)| taught)
}

/// How many slips lead from one word to the other: Damerau and Levenshtein's distance, no letter touched twice.
fn slips(a: &[char], b: &[char]) -> usize {
    let [mut before, mut last] = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>()];
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            row[j + 1] = (last[j] + usize::from(a[i] != b[j])).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        (before, last) = (last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        let slips = |a: &str, b: &str| slips(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, expected) in [("", "", 0), ("", "cat", 3), ("cat", "cat", 0), ("act", "cat", 1), ("boats", "cat", 3)]
        {
            assert_eq!((slips(a, b), slips(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_is_a_slip_or_two_away_and_begins_alike() {
        let taught: BTreeSet<String> =
            ["avocado", "avocados", "boat", "cat", "cats", "house", "red", "éclair"].map(str::to_owned).into();
        for (word, expected) in [
            ("avacado", Some("avocado")),
            ("avocadoes", Some("avocados")),
            ("acvocados", Some("avocados")),
            ("avakato", None),
            ("caat", Some("cat")),
            ("catz", Some("cat")),
            ("rde", Some("red")),
            ("erd", Some("red")),
            ("mouse", None),
            ("bat", Some("boat")),
            ("at", None),
            ("éclar", Some("éclair")),
        ] {
            assert_eq!(nearest(word, &taught), expected, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(10_000), &taught), None);
    }
}
