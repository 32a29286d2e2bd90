//! Why a command failed, in one line that says what to do, and the exit code that goes with it.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use easel_client::Code;

use crate::output;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("interrupted")]
    Interrupted,
    #[error("{0}")]
    Failed(String),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Gateway(#[from] easel_client::Error),
    #[error("{url} is not an Easel gateway")]
    Foreign { url: String, source: easel_client::Error },
    #[error(transparent)]
    Suite(#[from] easel_standalone::Error),
    #[error(transparent)]
    Server(#[from] easel_server::Error),
    #[error(transparent)]
    Import(#[from] easel_import::Error),
    #[error(transparent)]
    Measure(#[from] easel_standalone::measure::Error),
    #[error(transparent)]
    Package(#[from] easel_package::Error),
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    #[error("{what}")]
    Picture { what: String, source: image::ImageError },
    #[error("the record cannot be written")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Tells it on standard error, and gives the exit code.
    pub(crate) fn report(&self) -> u8 {
        eprintln!("easel: {}", output::visible(&self.line()));
        self.exit_code()
    }

    /// The error of a call to the gateway at `url`.
    pub(crate) fn at(self, url: &str) -> Self {
        match self {
            Self::Gateway(source @ easel_client::Error::Refused(_)) if is_foreign(&source) => {
                Self::Foreign { url: url.to_owned(), source }
            }
            error => error,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Gateway(error) if error.code() == Some(Code::InvalidArgument) => USAGE,
            Self::Interrupted => INTERRUPTED,
            _ => FAILED,
        }
    }

    /// One line: what went wrong, why, and what to type.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Gateway(error) => gateway(error),
            error => chain(error),
        }
    }
}

/// An error and its causes, each once.
fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}

fn is_foreign(error: &easel_client::Error) -> bool {
    matches!(error, easel_client::Error::Refused(refusal) if refusal.is_foreign())
}

fn gateway(error: &easel_client::Error) -> String {
    match error {
        easel_client::Error::Connect { .. } => {
            return format!("{} (start a gateway with: easel serve)", chain(error));
        }
        // Commands connect before they call.
        easel_client::Error::Refused(refusal) if refusal.is_transport() => {
            return format!("the gateway closed the connection: {}", chain(error));
        }
        _ => {}
    }
    if !error.violations().is_empty() {
        let violations = error.violations().iter().map(|v| format!("{}: {}", typed(&v.field), v.description));
        return violations.collect::<Vec<_>>().join("; ");
    }
    let line = match error.code() {
        Some(code @ (Code::Unavailable | Code::ResourceExhausted | Code::Internal | Code::Unknown)) => {
            format!("{}: {}", name(code), chain(error))
        }
        _ => chain(error),
    };
    match error.retry_after() {
        Some(delay) => format!("{line} (try again in {} s)", delay.as_secs_f64().ceil()),
        None => line,
    }
}

/// What the user typed for a field of the request.
fn typed(field: &str) -> String {
    let field = field.strip_prefix("parameters.").unwrap_or(field);
    match field {
        "prompt" => "PROMPT".to_owned(),
        "guidance_scale" => "--guidance".to_owned(),
        "image" | "image.image" => "the image".to_owned(),
        "request" => "the request".to_owned(),
        "image.region" => "--keep-rows".to_owned(),
        _ if field.starts_with("labels") => "LABEL".to_owned(),
        _ => {
            let flag = field.strip_prefix("image.").unwrap_or(field).split(['[', '.']).next().unwrap_or(field);
            format!("--{}", flag.replace('_', "-"))
        }
    }
}

/// A code as gRPC writes it: "RESOURCE_EXHAUSTED".
pub(crate) fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() && code != Code::Ok {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_as_it_was_typed() {
        for (field, flag) in [
            ("prompt", "PROMPT"),
            ("request", "the request"),
            ("parameters.top_p", "--top-p"),
            ("parameters.guidance_scale", "--guidance"),
            ("text_tokens[3]", "--text-tokens"),
            ("image.redraw_from.row", "--redraw-from"),
            ("labels[0]", "LABEL"),
        ] {
            assert_eq!(typed(field), flag);
        }
    }

    #[test]
    fn codes_have_their_names() {
        assert_eq!(name(Code::ResourceExhausted), "RESOURCE_EXHAUSTED");
        assert_eq!(name(Code::Ok), "OK");
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::other("no space");
        let error = Error::Write { path: "a.png".into(), source };
        assert_eq!(error.line(), "cannot write a.png: no space");
    }
}
