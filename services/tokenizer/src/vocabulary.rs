//! One vocabulary: text to ids and back, by Hugging Face's `tokenizers`.

use std::collections::HashSet;
use std::path::Path;

use easel_package::Template;
use serde_json::Value;
use tokenizers::Tokenizer;
use unicode_normalization_alignments::char::{compose, is_combining_mark};

use crate::Error;

#[cfg(test)]
mod tests;

/// One id of an encoded prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The id.
    pub(crate) id: u32,
    /// The vocabulary's spelling.
    pub(crate) piece: String,
    /// The bytes of the prompt that it covers, as the caller wrote them; 0, 0 for a token that the vocabulary adds.
    pub(crate) span: (usize, usize),
    /// The vocabulary has no better piece here than a byte or the unknown token.
    pub(crate) unknown: bool,
}

/// A tokenizer, and how many ids the model behind it reads.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    length: usize,
    /// Put before and behind every prompt.
    around: [String; 2],
    /// Stands for text that has no piece.
    unknown: Option<u32>,
    /// Tokens that text must never become.
    special: HashSet<u32>,
    byte_level: bool,
    byte_fallback: bool,
}

impl Vocabulary {
    /// Reads the `tokenizer.json` at `path` of a model that reads `length` ids below `size`, and prompts within `template`. Its own truncation and padding
    /// do not count.
    pub(crate) fn load(path: &Path, length: u32, size: u32, template: Option<&Template>) -> Result<Self, Error> {
        let wrong = |expected: String, found: String| Error::Vocabulary { path: path.into(), expected, found };
        let unusable = |reason: String| wrong("a tokenizer.json of the tokenizers library".into(), reason);
        let text = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(&text).map_err(|error| unusable(error.to_string()))?;
        tokenizer.with_truncation(None).map_err(|error| unusable(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);

        let highest = tokenizer.get_vocab(true).into_values().max();
        match highest {
            Some(id) if id < size => {}
            Some(id) => return Err(wrong(format!("ids below {size}"), format!("id {id}"))),
            None => return Err(wrong("a vocabulary".into(), "an empty one".into())),
        }
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let special = added.filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        let vocabulary = Self {
            unknown: unknown_id(&json, &tokenizer),
            special,
            byte_level: has_byte_level(&json["pre_tokenizer"]) || has_byte_level(&json["normalizer"]),
            byte_fallback: json["model"]["byte_fallback"] == true,
            length: length as usize,
            around: template.map(|t| [t.before.clone(), t.after.clone()]).unwrap_or_default(),
            tokenizer,
        };
        let (tokens, _) = vocabulary.encode("a")?;
        let added = tokens.iter().filter(|token| token.span == (0, 0)).count();
        if added >= length as usize {
            let expected = format!("room for text within {length} tokens");
            return Err(wrong(expected, format!("{added} that are always added")));
        }
        Ok(vocabulary)
    }

    /// The prompt's tokens, as many as the model reads, and whether there were more. What the vocabulary adds behind the text stays behind it, and so does
    /// the template's part.
    pub(crate) fn encode(&self, prompt: &str) -> Result<(Vec<Token>, bool), Error> {
        let [before, after] = &self.around;
        let text = [before, prompt, after].concat();
        let own = before.len()..before.len() + prompt.len();
        let encoding = self.tokenizer.encode(&*text, true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let added = encoding.get_special_tokens_mask();
        let behind = |span: (usize, usize)| !after.is_empty() && span.0 >= own.end;
        let kept = added.iter().zip(encoding.get_offsets()).filter(|(added, span)| **added == 1 || behind(**span));
        let room = self.length.saturating_sub(kept.count());
        let starts: HashSet<usize> = encoding.get_offsets().iter().map(|span| span.0).collect();
        let mut tokens = Vec::with_capacity(self.length.min(added.len()));
        let mut texts = 0;
        for (i, added) in added.iter().enumerate() {
            let (id, piece, span) = (encoding.get_ids()[i], &encoding.get_tokens()[i], encoding.get_offsets()[i]);
            if *added == 1 || behind(span) {
                tokens.push(Token { id, piece: piece.clone(), span: (0, 0), unknown: false });
                continue;
            }
            texts += 1;
            if texts > room {
                continue;
            }
            let unknown = self.is_unknown(id, piece);
            if self.special.contains(&id) && !unknown {
                // Some models (Unigram, WordLevel) hold special tokens among their pieces.
                return Err(Error::Prompt(format!(
                    "this vocabulary cannot tell the text {piece:?} from a special token"
                )));
            }
            let end = end_with_marks(&text, span, &starts);
            let span = [span.0, end].map(|at| at.clamp(own.start, own.end) - own.start).into();
            tokens.push(Token { id, piece: piece.clone(), span, unknown });
        }
        Ok((tokens, texts > room))
    }

    /// The text of `ids`, special tokens left out.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        if let Some(index) = ids.iter().position(|id| self.tokenizer.id_to_token(*id).is_none()) {
            return Err(Error::Id { index, id: ids[index] });
        }
        self.tokenizer.decode(ids, true).map_err(|error| Error::Tokenizer(error.to_string()))
    }

    fn is_unknown(&self, id: u32, piece: &str) -> bool {
        self.unknown == Some(id)
            || self.byte_fallback && is_byte_piece(piece)
            || self.byte_level && is_lone_byte(piece.strip_suffix("</w>").unwrap_or(piece))
    }
}

/// The end of a span of `prompt`, with the marks behind it that were composed into its last character: a normaliser to NFC leaves them uncovered.
/// A character that a token `starts` at is covered.
fn end_with_marks(prompt: &str, span: (usize, usize), starts: &HashSet<usize>) -> usize {
    let text = prompt.get(span.0..span.1).unwrap_or_default();
    let Some(mut last) = text.chars().next_back() else { return span.1 };
    let mut end = span.1;
    for next in prompt[span.1..].chars() {
        let composed = compose(last, next);
        if starts.contains(&end) || composed.is_none() && !is_combining_mark(next) {
            break;
        }
        last = composed.unwrap_or(last);
        end += next.len_utf8();
    }
    end
}

/// The id for text without a piece, as the model's part of a `tokenizer.json` names it.
fn unknown_id(json: &Value, tokenizer: &Tokenizer) -> Option<u32> {
    let model = &json["model"];
    let by_name = model["unk_token"].as_str().and_then(|token| tokenizer.token_to_id(token));
    by_name.or_else(|| model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()))
}

/// Whether a part of a `tokenizer.json` is or holds a `ByteLevel`.
fn has_byte_level(part: &Value) -> bool {
    match part {
        Value::Object(fields) => part["type"] == "ByteLevel" || fields.values().any(has_byte_level),
        Value::Array(parts) => parts.iter().any(has_byte_level),
        _ => false,
    }
}

/// `<0xE9>`, as byte fall-back spells a byte.
fn is_byte_piece(piece: &str) -> bool {
    let hex = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A byte of a character of several bytes, alone. Byte-level vocabularies spell bytes as GPT-2's `bytes_to_unicode` does: 0xA1 … 0xFF but 0xAD as
/// themselves, 0x80 … 0xA0 and 0xAD as the characters from U+0122 on.
fn is_lone_byte(piece: &str) -> bool {
    let mut chars = piece.chars();
    let lone = matches!(chars.next(), Some('\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' | '\u{122}'..='\u{143}'));
    lone && chars.next().is_none()
}
