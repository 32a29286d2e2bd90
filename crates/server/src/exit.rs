//! The end of a process that has ONNX Runtime loaded.
//!
//! A load is not waited for when a service stops, and the library's destructors, which the ordinary exit runs, crash while another of its threads is at
//! work: a clean stop would end as a segmentation fault. So the process ends at once, after its telemetry was shut down.

use std::error::Error;
use std::io::Write;

/// Ends the process with `code`, without running destructors; standard output is flushed.
pub fn with_code(code: u8) -> ! {
    // A reader that has gone away is no reason not to end.
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes any number and has no other precondition.
    unsafe { libc::_exit(code.into()) }
}

/// Ends the process as the end of main would: 0, or the error with its causes as one line on standard error and 1.
pub fn with_result<E: Into<Box<dyn Error + Send + Sync>>>(result: Result<(), E>) -> ! {
    if let Err(error) = result {
        eprintln!("Error: {}", chain(&*error.into()));
        with_code(1)
    }
    with_code(0)
}

/// An error and its causes, "a: b: c", without those that are told already.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Outer {
        said: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn causes_are_told_once() {
        let told = |said| chain(&Outer { said, source: std::io::Error::other("address in use") });
        assert_eq!(told("--listen 127.0.0.1:1"), "--listen 127.0.0.1:1: address in use");
        assert_eq!(told("a.json: address in use"), "a.json: address in use");
    }
}
