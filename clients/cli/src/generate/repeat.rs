//! The command line that draws the same again, and the name of the folder.

use easel_client::Started;

use super::{FileFormat, Generate};
use crate::output;

/// Words of a caption in a folder's name, at most this many bytes.
const SLUG_BYTES: usize = 48;

/// The caption as part of a file name: "an-armchair-in-the-shape-of-an-avocado".
pub(super) fn slug(prompt: &str) -> String {
    let mut slug = String::new();
    for word in prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        if !slug.is_empty() && slug.len() + word.len() >= SLUG_BYTES {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(SLUG_BYTES));
    }
    if slug.is_empty() { "picture".to_owned() } else { slug }
}

/// All that decides about the pictures, with the defaults filled in.
pub(super) fn command(generate: &Generate, started: &Started) -> String {
    let mut words = vec!["easel".to_owned(), "generate".to_owned()];
    let mut option = |flag: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [flag.to_owned(), quoted(&value)]));
    };
    let parameters = &started.parameters;
    let tokens = generate.text_tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    option("--text-tokens", Some(tokens).filter(|tokens| !tokens.is_empty()));
    option("--candidates", Some(generate.candidates.to_string()));
    option("--keep", generate.keep.map(|keep| keep.to_string()));
    option("--rank-by", generate.rank_by.map(|order| easel_client::RankBy::from(order).to_string()));
    option("--seed", started.seeds.first().map(u64::to_string));
    option("--temperature", parameters.temperature.map(|value| value.to_string()));
    option("--top-k", parameters.top_k.map(|value| value.to_string()));
    option("--top-p", parameters.top_p.map(|value| value.to_string()));
    option("--guidance", parameters.guidance_scale.map(|value| value.to_string()));
    option("--negative-prompt", generate.parameters.negative_prompt.clone());
    option("--image", generate.image.image.as_ref().map(|path| path.display().to_string()));
    option("--keep-rows", generate.image.keep_rows.map(|rows| rows.to_string()));
    option("--redraw-from", generate.image.redraw_from.map(|(row, column)| format!("{row},{column}")));
    let format = match generate.format {
        FileFormat::Png => None,
        FileFormat::Jpeg => Some("jpeg"),
        FileFormat::Webp => Some("webp"),
    };
    option("--format", format.map(str::to_owned));
    option("--quality", (generate.format == FileFormat::Jpeg).then(|| generate.quality().to_string()));
    option("--package", generate.target.package.clone());
    option("--gateway", generate.target.url());
    option("--kv", generate.target.kv());
    if !generate.prompt.is_empty() {
        // A caption may begin with a dash.
        let caption = generate.caption();
        words.extend(caption.starts_with('-').then(|| "--".to_owned()));
        words.push(quoted(&caption));
    }
    words.join(" ")
}

/// A word as a shell reads it back. What a terminal would obey instead of show is written with escapes.
fn quoted(word: &str) -> String {
    if word.chars().any(output::is_control) {
        return format!("$'{}'", word.chars().map(escaped).collect::<String>());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A letter within $'…'.
fn escaped(letter: char) -> String {
    match letter {
        '\n' => r"\n".to_owned(),
        '\t' => r"\t".to_owned(),
        '\'' | '\\' => format!("\\{letter}"),
        _ if output::is_control(letter) => {
            letter.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}")).collect()
        }
        _ => letter.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_file_name() {
        assert_eq!(slug("An armchair, in the shape of an avocado!"), "an-armchair-in-the-shape-of-an-avocado");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("  \n"), "picture");
        assert!(slug(&"word ".repeat(100)).len() <= SLUG_BYTES);
        assert!(slug(&"x".repeat(1000)).len() <= SLUG_BYTES);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("0.5"), "0.5");
        assert_eq!(quoted("a cat"), "'a cat'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(quoted("\u{1b}]0;it's\u{7}\n"), r"$'\033]0;it\'s\007\n'");
        assert_eq!(quoted("a\\\u{202e}b\u{9b}"), r"$'a\\\342\200\256b\302\233'");
        assert_eq!(quoted("é ö"), "'é ö'");
    }
}
