//! The live progress line: throughput, totals and lag.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use scrutin_files::printable::escaped;
use scrutin_pipeline::CountProgress;
use scrutin_producer::simulate::SendProgress as VotesProgress;
use scrutin_telemetry::Telemetry;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::table::{grouped, percent};

/// How often the line is rewritten on a terminal, and how often a line is added elsewhere.
const ON_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// An engine's own figures besides the count's, part by part.
pub(super) type EngineProgress = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The sources of the line.
#[derive(Clone, Default)]
pub(super) struct View {
    pub count: Option<Arc<CountProgress>>,
    pub votes: Option<Arc<VotesProgress>>,
    pub of_engine: Option<EngineProgress>,
    pub telemetry: Option<Arc<Telemetry>>,
    /// Number of registered voters, for the turnout.
    pub registered: Option<u64>,
}

/// A task that writes the line to stderr until it is ended.
pub(super) struct Line {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Line {
    pub fn start(view: View) -> Line {
        let (end, ended) = oneshot::channel();
        Line { end, task: tokio::spawn(write(view, ended)) }
    }

    /// Writes the last state and ends the line.
    pub async fn end(self) {
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

async fn write(view: View, mut ended: oneshot::Receiver<()>) {
    let is_terminal = std::io::stderr().is_terminal();
    let every = if is_terminal { ON_TERMINAL } else { ELSEWHERE };
    let mut meter = Meter::new(view.moved());
    loop {
        let last = tokio::time::timeout(every, &mut ended).await.is_ok();
        let text = view.text(meter.rate(view.moved()));
        let text = escaped(&text);
        let mut stderr = std::io::stderr().lock();
        // A closed terminal must not stop the count.
        let _ = match (is_terminal, last) {
            (true, false) => write!(stderr, "\r\x1b[2K{text}"),
            (true, true) => writeln!(stderr, "\r\x1b[2K{text}"),
            (false, _) => writeln!(stderr, "{text}"),
        };
        let _ = stderr.flush();
        if last {
            return;
        }
    }
}

impl View {
    /// What the rate is of: votes committed, or votes appended where nothing counts.
    fn moved(&self) -> u64 {
        match (&self.count, &self.votes) {
            (Some(count), _) => count.received(),
            (None, Some(votes)) => votes.appended.load(Ordering::Relaxed),
            (None, None) => 0,
        }
    }

    fn text(&self, rate: f64) -> String {
        let mut parts = Vec::new();
        if let Some(votes) = &self.votes {
            parts.push(format!("day {:>3.0} %", votes.day_ppm.load(Ordering::Relaxed) as f64 / 10_000.0));
            if self.count.is_none() {
                parts.push(format!("{} votes written", grouped(votes.appended.load(Ordering::Relaxed) as i64)));
            }
        }
        if let Some(count) = &self.count {
            let counted = count.counted.load(Ordering::Relaxed);
            parts.push(format!("counted {}", grouped(counted as i64)));
            parts.push(format!("rejected {}", grouped(count.rejected.load(Ordering::Relaxed) as i64)));
            parts.push(format!("lag {}", grouped(count.lag.load(Ordering::Relaxed) as i64)));
            if let Some(registered) = self.registered.filter(|registered| *registered > 0) {
                parts.push(format!("turnout {}", percent(counted as f64 / registered as f64)));
            }
        }
        parts.push(format!("{} votes/s", grouped(rate as i64)));
        parts.extend(self.of_engine.iter().flat_map(|progress| progress()));
        let problems = self.telemetry.iter().flat_map(|telemetry| telemetry.parts());
        for (name, problem) in problems.filter_map(|part| Some((part.name, part.problem?))) {
            parts.push(format!("waiting for {name}: {problem}"));
        }
        parts.join("  ")
    }
}

/// The rate over the last few seconds.
struct Meter {
    samples: std::collections::VecDeque<(Instant, u64)>,
}

impl Meter {
    const WINDOW: Duration = Duration::from_secs(3);

    fn new(start: u64) -> Meter {
        Meter { samples: [(Instant::now(), start)].into() }
    }

    fn rate(&mut self, moved: u64) -> f64 {
        let now = Instant::now();
        self.samples.push_back((now, moved));
        while self.samples.len() > 2 && now - self.samples[1].0 >= Self::WINDOW {
            self.samples.pop_front();
        }
        let (then, before) = self.samples[0];
        moved.saturating_sub(before) as f64 / (now - then).as_secs_f64().max(1e-3)
    }
}

/// Summarizes a count in one sentence.
pub(super) fn summary(count: &CountProgress, took: Duration) -> String {
    let received = count.received() - count.received_before.load(Ordering::Relaxed);
    format!(
        "{} votes in {:.1} s ({} votes/s): now {} counted, {} rejected, {} left in the log",
        grouped(received as i64),
        took.as_secs_f64(),
        grouped((received as f64 / took.as_secs_f64().max(1e-3)) as i64),
        grouped(count.counted.load(Ordering::Relaxed) as i64),
        grouped(count.rejected.load(Ordering::Relaxed) as i64),
        grouped(count.lag.load(Ordering::Relaxed) as i64),
    )
}
