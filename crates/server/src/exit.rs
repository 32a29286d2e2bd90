//! The end of a process that has ONNX Runtime loaded.
//!
//! A load is not waited for when a service stops, and the library's destructors, which the ordinary exit runs, crash while another of its threads is at
//! work: a clean stop would end as a segmentation fault. So the process ends at once, after its telemetry was shut down.

use std::fmt::Debug;
use std::io::Write;

/// Ends the process with `code`, without running destructors; standard output is flushed.
pub fn with_code(code: u8) -> ! {
    // A reader that has gone away is no reason not to end.
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes any number and has no other precondition.
    unsafe { libc::_exit(code.into()) }
}

/// Ends the process as the end of main would: 0, or the error on standard error and 1.
pub fn with_result<E: Debug>(result: Result<(), E>) -> ! {
    if let Err(error) = result {
        eprintln!("Error: {error:?}");
        with_code(1)
    }
    with_code(0)
}
