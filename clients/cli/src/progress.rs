//! Progress bars on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// A bar that counts to `length` and keeps the time, with its name before it. Hidden where standard error is no terminal.
pub(crate) fn bar(name: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_prefix(name).with_style(style("{pos}/{len} {msg}"));
    bar.enable_steady_tick(TICK);
    bar
}

/// The look of all bars; `tail` is what follows the bar.
pub(crate) fn style(tail: &str) -> ProgressStyle {
    let template = format!("{{prefix:>10}} {{bar:32.cyan/dim}} {tail}");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    style.progress_chars("━╸─")
}
