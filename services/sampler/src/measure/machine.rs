//! What the machine does without us.

use std::{hint::black_box, thread, time::Instant};

/// Far more than caches hold.
const BYTES: usize = 256 << 20;
const PASSES: usize = 6;

/// Bytes a second that `threads` threads read from memory together: the best of several passes of plain loops, each over its own share.
pub fn read_bandwidth(threads: usize) -> f64 {
    let numbers = vec![1_u64; BYTES / size_of::<u64>()];
    let share = numbers.len().div_ceil(threads.max(1));
    let pass = || {
        let started = Instant::now();
        thread::scope(|scope| numbers.chunks(share).for_each(|numbers| drop(scope.spawn(|| black_box(sum(numbers))))));
        BYTES as f64 / started.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

fn sum(numbers: &[u64]) -> u64 {
    let mut lanes = [0_u64; 32];
    for block in numbers.as_chunks::<32>().0 {
        lanes.iter_mut().zip(block).for_each(|(lane, number)| *lane = lane.wrapping_add(*number));
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// Memory of this process that is in use; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Seconds that this process has computed, on all threads together; 0 where the system does not tell.
pub fn cpu_seconds() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: utime and stime are the 12th and 13th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_at_some_speed_and_takes_some_room() {
        let bandwidth = read_bandwidth(2);
        assert!(bandwidth > 1e7 && bandwidth < 1e14, "{bandwidth}");
        if cfg!(target_os = "linux") {
            assert!(resident_bytes() > 1 << 20);
            assert!(cpu_seconds() > 0.0);
        }
    }
}
