//! What a part of a run costs: time, processor time and memory.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// Time and processor time of a part of a run, of this process and of others on this machine.
pub struct Cost<'a> {
    start: Instant,
    own: f64,
    others: f64,
    pids: &'a [u32],
}

/// Votes a second; processor seconds a million votes.
pub struct Rates {
    pub rate: f64,
    pub own: f64,
    pub others: f64,
}

impl Cost<'_> {
    /// What was written before is on the disk when the time begins.
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
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("ask for the time used");
    [usage.user_time(), usage.system_time()].iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum()
}

fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The 14th and 15th of proc(5), in ticks of a hundredth; the name before may have spaces in it.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    pids.iter().map(of).sum()
}

/// Begins to measure the peak of a process's memory anew, where the system can.
pub fn reset_peak_memory(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Peak of a process's resident memory since then; none where the system does not tell.
pub fn peak_memory_mb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
