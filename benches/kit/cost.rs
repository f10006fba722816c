//! The cost of part of a run: time, processor time and memory.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// Measures the time of part of a run, and the processor time of this process (`own`) and of `pids` (`others`).
pub struct Cost<'a> {
    start: Instant,
    own: f64,
    others: f64,
    pids: &'a [u32],
}

/// Votes per second (`rate`), and processor seconds per million votes.
pub struct Rates {
    pub rate: f64,
    pub own: f64,
    pub others: f64,
}

impl Cost<'_> {
    /// Syncs earlier writes to disk before the clock starts.
    pub fn begin(pids: &[u32]) -> Cost<'_> {
        nix::unistd::sync();
        Cost { start: Instant::now(), own: own_cpu_seconds(), others: cpu_seconds(pids), pids }
    }

    pub fn end(self, votes: u64) -> Rates {
        let millions = votes as f64 / 1e6;
        Rates {
            rate: votes as f64 / self.start.elapsed().as_secs_f64(),
            own: (own_cpu_seconds() - self.own) / millions,
            others: (cpu_seconds(self.pids) - self.others) / millions,
        }
    }
}

fn own_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("get the processor time");
    [usage.user_time(), usage.system_time()].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Fields 14 and 15 of proc(5), in ticks of 1/100 s; the name before them may contain spaces.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    pids.iter().map(of).sum()
}

/// Resets a process's peak memory, where the system can.
pub fn reset_peak_memory(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Peak resident memory of a process since [`reset_peak_memory`]; `None` where the system does not report it.
pub fn peak_memory_mb(pid: u32) -> Option<u64> {
    status_mb(pid, "VmHWM:")
}

/// Resident memory of a process; `None` where the system does not report it.
pub fn memory_mb(pid: u32) -> Option<u64> {
    status_mb(pid, "VmRSS:")
}

fn status_mb(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
