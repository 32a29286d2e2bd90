//! What ends a call before its handler does: its deadline, and the drain's cut.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use crate::drain::Drain;
use crate::{Deadline, status};

/// A caller that was refused or cut may try elsewhere at once, here after this.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Polled beside the handler and, later, beside its body.
pub(crate) struct Interrupt {
    deadline: Option<(Deadline, Pin<Box<Sleep>>)>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Interrupt {
    pub(crate) fn new(deadline: Option<Deadline>, drain: &Drain) -> Self {
        let timer = |deadline: Deadline| Box::pin(tokio::time::sleep_until(deadline.0));
        Self { deadline: deadline.map(|deadline| (deadline, timer(deadline))), cut: Box::pin(drain.cutting()) }
    }

    /// When the call ends at the latest.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.deadline.as_ref().map(|(deadline, _)| *deadline)
    }

    /// The status that the call ends with now; none: it goes on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        if let Some((deadline, timer)) = &mut self.deadline {
            // The clock decides, the timer only wakes: tonic's own timer starts later than ours but might wake us
            // first, and would answer CANCELLED if this did not speak up.
            if deadline.is_past() || timer.as_mut().poll(cx).is_ready() {
                return Some(status::deadline_exceeded());
            }
        }
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Some(status::unavailable("draining", RETRY_AFTER)),
            Poll::Pending => None,
        }
    }
}

/// The value of a grpc-timeout header: at most eight digits and a unit
/// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). None when it is malformed: ignored, as tonic does.
pub(crate) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let (digits, unit) = value.split_at(value.len().checked_sub(1)?);
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse::<u64>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_timeouts() {
        let parse = |value| parse_timeout(&HeaderValue::from_static(value));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse("00000004S"), Some(Duration::from_secs(4)));
        assert_eq!(parse("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for malformed in ["", "S", "5", "5s", "+5S", "123456789S", "1.5S"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
