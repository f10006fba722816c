//! `scrutin demo`: everything in one process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use scrutin_contract::truth::Truth;
use scrutin_files::FileError;
use scrutin_files::printable::escaped;
use scrutin_files::private;
use scrutin_log::{EmbeddedLog, VoteLog};
use scrutin_pipeline::{self as pipeline, CountError, CountOptions, CountProgress, Stop};
use scrutin_postgres::Cluster;
use scrutin_producer::replay::layout::Kind;
use scrutin_producer::simulate::{FaultRates, SendProgress, Speed};
use scrutin_store::{Role, counters, elections, migrate};
use scrutin_telemetry::Telemetry;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::UsageError;
use super::audit::{recount, verdict};
use super::open::{Store, open_log, stop_at_signal};
use super::progress::{Line, View, summary};
use super::reading::ReadingArgs;
use super::results::print_result;
use super::serve;
use super::table::{print, registered, so_many};
use super::votes::{Day, FaultArgs, Source, now_ms, parse_duration, parse_speed};
use crate::config::{LogSettings, Settings};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Total number of registered voters [default: 1000000; with --election, as in its folder]
    #[arg(long, value_name = "N", help_heading = "Votes")]
    voters: Option<u64>,
    /// Folder with election.toml, regions.csv and choices.csv [default: the built-in presidential election]
    #[arg(long, value_name = "DIR", help_heading = "Votes")]
    election: Option<PathBuf>,
    /// Replay real results instead: a table with the columns region_code, region_name, registered, abstentions, blank,
    /// null, candidate, votes, and optionally candidate_id, or as described by a layout or the options below; `scrutin
    /// inspect` shows how it is read
    #[arg(long, value_name = "FILE", help_heading = "Votes", conflicts_with_all = ["voters", "election"])]
    results: Option<PathBuf>,
    /// Replay real ballots instead: a table with one row per ballot, whose columns a layout or the options below name
    #[arg(long, value_name = "FILE", help_heading = "Votes", conflicts_with_all = ["voters", "election", "results"])]
    ballots: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Seed: the same seed produces the same votes [default: 1]
    #[arg(long, value_name = "N", help_heading = "Votes")]
    seed: Option<u64>,
    /// How long the voting day lasts in real time [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    day: Option<Duration>,
    /// Speed of the day as a multiple of real time, or max to write all votes at once [default: 1]
    #[arg(long, value_name = "X", value_parser = parse_speed)]
    speed: Option<Speed>,
    #[command(flatten)]
    faults: FaultArgs,
    /// Start over: delete the votes and the count of the previous run
    #[arg(long)]
    fresh: bool,
    /// Exit when everything is counted and audited, instead of keeping the page up
    #[arg(long)]
    exit: bool,
}

/// Files in the data folder.
const RUN: &str = "run.json";
const TRUTH: &str = "truth.json";

const DAY: Duration = Duration::from_secs(300);
const VOTERS: u64 = 1_000_000;

/// Everything that determines a run's votes; kept in the data folder, so that the next start resumes the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    source: Source,
    seed: u64,
    faults: FaultRates,
    opens_at_ms: i64,
    day_ms: i64,
    /// Whether votes come all at once; otherwise at the pace of the day.
    at_once: bool,
    /// Hash of the file that the run began with.
    #[serde(default)]
    sha256: Option<String>,
}

pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    log_dir(&settings)?;
    fs::create_dir_all(&settings.data_dir)
        .with_context(|| format!("make the data folder {}", settings.data_dir.display()))?;
    let _lock = lock(&settings.data_dir)?;
    let stop = stop_at_signal()?;
    let known = if args.fresh { None } else { Run::read(&settings.data_dir)? };
    let mut run = settle(&args, known.clone(), &settings.data_dir)?;
    // Report errors in the source before deleting or writing anything.
    let (votes, sha256) = run.source.open(run.seed, &Day::laid(run.opens_at_ms, run.day_ms), &settings.data_dir)?;
    check_same_file(&run, sha256.as_deref())?;
    run.sha256 = sha256;
    let election = votes.election().clone();
    if args.fresh {
        forget(&settings).await?;
    }
    if known.is_none() {
        run.write(&settings.data_dir)?;
    }

    let log = open_log(&settings).await?;
    let store = Store::open(&settings).await?;
    migrate::setup(&store.database).await?;
    elections::save(&mut store.client(Role::Owner).await?, &election).await?;

    let telemetry = Telemetry::new();
    let page = serve::start(&settings, &store.database, &telemetry).await?;
    print(&format!(
        "{}: {}, {}\n\n  page        {}\n  data        {}\n",
        escaped(&election.title),
        so_many(election.regions.len(), "region"),
        registered(&election),
        page.address,
        settings.data_dir.display()
    ))?;
    if let Some(command) = store.psql_command() {
        print(&format!("  psql        {command}\n"))?;
    }
    print("  Ctrl-C stops; run it again to resume, or with --fresh to start over\n\n")?;

    let count = Arc::new(CountProgress::default());
    let sent = Arc::new(SendProgress::default());
    let line = Line::start(View {
        count: Some(Arc::clone(&count)),
        votes: Some(Arc::clone(&sent)),
        telemetry: Some(Arc::clone(&telemetry)),
        registered: election.registered(),
        ..View::default()
    });
    let start = Instant::now();
    let stop_count = Arc::new(Stop::default());
    let counting = tokio::spawn({
        let (log, database, count, stop) =
            (Arc::clone(&log), store.database.clone(), Arc::clone(&count), Arc::clone(&stop_count));
        let options = CountOptions { counter: settings.counter.clone(), workers: settings.workers, drain: false };
        async move { pipeline::count(log, database, &options, telemetry, count, stop).await }
    });
    let speed = if run.at_once { Speed::Max } else { Speed::Times(1.0) };
    let sending = tokio::spawn(votes.send(run.faults, Arc::clone(&log), speed, sent, Arc::clone(&stop)));
    let truth = run_out(sending, counting, &count, &stop, &stop_count).await;
    line.end().await;

    let code = match truth? {
        None => {
            print(&format!("{}\nStopped; run it again to resume.\n", summary(&count, start.elapsed())))?;
            ExitCode::SUCCESS
        }
        Some(truth) => {
            truth.write(&settings.data_dir.join(TRUTH))?;
            print(&format!("{}\n\n", summary(&count, start.elapsed())))?;
            print_result(&store.client(Role::Reader).await?, &settings.counter, &election.id).await?;
            let report =
                recount(Arc::clone(&log), store.database.clone(), settings.counter.clone(), Some(truth)).await?;
            print(&format!("\n{report}\n"))?;
            if !args.exit && !stop.is_asked() {
                print(&format!("\nThe page stays up at {} until Ctrl-C.\n", page.address))?;
                stop.asked().await;
            }
            verdict(&report)
        }
    };
    page.stop().await?;
    store.close().await?;
    Ok(code)
}

/// Waits until all votes are sent and counted, or until a stop or an error. Both tasks have ended when it returns.
async fn run_out(
    sending: JoinHandle<Result<Option<Truth>>>,
    mut counting: JoinHandle<Result<(), CountError>>,
    count: &CountProgress,
    stop: &Stop,
    stop_count: &Stop,
) -> Result<Option<Truth>> {
    let mut sending = std::pin::pin!(async { sending.await.context("make the votes")? });
    let truth = tokio::select! {
        truth = &mut sending => truth,
        counted = &mut counting => {
            // The count ends by itself only on an error.
            stop.ask();
            sending.await?;
            counted.context("count")??;
            bail!("the count ended before the votes; run it again to resume");
        }
    };
    if let Ok(Some(truth)) = &truth {
        while count.received() < truth.records && !counting.is_finished() && !stop.is_asked() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop_count.ask();
    counting.await.context("count")??;
    let truth = truth?;
    Ok(truth.filter(|truth| count.received() >= truth.records))
}

/// Takes the data folder's lock: one demo per folder.
fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("demo.lock");
    let file = private::lock_file(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(anyhow!(
            "another demo is running on {}; stop it, or choose another folder with --data-dir",
            data_dir.display()
        )),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// The demo deletes and recreates its log, so it needs one of its own.
fn log_dir(settings: &Settings) -> Result<&Path> {
    match &settings.log {
        LogSettings::Embedded(dir) => Ok(dir),
        LogSettings::Kafka { .. } => Err(UsageError(
            "the demo keeps its votes in a folder; to use Kafka, run its parts: `scrutin setup`, `count`, `serve` and \
             `simulate`, each with --log kafka://…"
                .into(),
        )
        .into()),
    }
}

/// Checks that the count to be deleted is of the demo's own log.
async fn check_own_count(settings: &Settings, store: &Store) -> Result<()> {
    let Some(counted) = counters::log_of(&store.client(Role::Owner).await?, &settings.counter).await? else {
        return Ok(());
    };
    let dir = log_dir(settings)?;
    let own = if dir.join("log.json").exists() { Some(EmbeddedLog::open_existing(dir)?.id()) } else { None };
    if own.as_ref() != Some(&counted) {
        bail!(
            "counter `{}` in {} has counted a different log from the one at {}, and --fresh would delete that count; \
             name another counter with --counter, or another database",
            settings.counter,
            store.database.name(),
            dir.display()
        );
    }
    Ok(())
}

/// Deletes the previous run: its log, its count and its description.
async fn forget(settings: &Settings) -> Result<()> {
    match &settings.database_url {
        None => Cluster::remove(&settings.data_dir).await?,
        Some(_) => {
            let store = Store::open(settings).await?;
            migrate::setup(&store.database).await?;
            check_own_count(settings, &store).await?;
            counters::forget(&mut store.client(Role::Owner).await?, &settings.counter).await?;
        }
    }
    let log_dir = log_dir(settings)?;
    match fs::remove_dir_all(log_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("delete {}", log_dir.display()));
        }
        _ => {}
    }
    for name in [RUN, TRUTH] {
        let path = settings.data_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("delete {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The run in the data folder, if the options match it, or a new one.
fn settle(args: &Args, known: Option<Run>, data_dir: &Path) -> Result<Run> {
    let asked = Run::asked(args)?;
    let Some(known) = known else { return Ok(asked) };
    let says_source =
        args.voters.is_some() || args.election.is_some() || args.results.is_some() || args.ballots.is_some();
    let differs = says_source && asked.source != known.source
        || args.seed.is_some() && asked.seed != known.seed
        || args.day.is_some() && asked.day_ms != known.day_ms
        || args.faults.is_given() && asked.faults != known.faults;
    if differs {
        let what = format!(
            "{} holds a run made with other options; leave them out to resume it, start over with --fresh, \
             or choose another folder with --data-dir",
            data_dir.display()
        );
        return Err(UsageError(what).into());
    }
    // The speed may differ between starts: it changes no vote.
    Ok(Run { at_once: if args.speed.is_some() { asked.at_once } else { known.at_once }, ..known })
}

/// Checks that a run's file is still the one it began with.
fn check_same_file(run: &Run, now: Option<&str>) -> Result<()> {
    let (Some(file), Some(then), Some(now)) = (run.source.file(), &run.sha256, now) else { return Ok(()) };
    if then == now {
        return Ok(());
    }
    let what = format!(
        "has changed since this run began: its sha256 was {then} and is now {now}; use --fresh to count the changed file"
    );
    Err(FileError::Whole { path: file.to_owned(), what }.into())
}

/// An absolute path, so that a later start from another folder finds the same file. A link keeps its name, since the
/// election is named after it.
fn absolute(path: &PathBuf) -> Result<PathBuf> {
    let whole = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    Ok(match (whole.parent().map(fs::canonicalize), whole.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => whole,
    })
}

impl Run {
    /// Reads the run stored in the folder.
    fn read(data_dir: &Path) -> Result<Option<Run>> {
        let path = data_dir.join(RUN);
        match fs::read(&path) {
            Ok(text) => {
                let run = serde_json::from_slice(&text)
                    .with_context(|| format!("{} does not describe a run; start over with --fresh", path.display()))?;
                Ok(Some(run))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Stores the run, atomically.
    fn write(&self, data_dir: &Path) -> Result<()> {
        let path = data_dir.join(RUN);
        let draft = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    fn asked(args: &Args) -> Result<Run> {
        if args.reading.is_given() && args.results.is_none() && args.ballots.is_none() {
            let what = "options for reading a file (--layout, --voter-column and so on) need --results or --ballots";
            return Err(UsageError(what.into()).into());
        }
        let layout = |kind| args.reading.layout(kind).map(Box::new);
        let source = match (&args.results, &args.ballots) {
            (Some(file), _) => Source::Results { file: absolute(file)?, layout: layout(Kind::Results)? },
            (_, Some(file)) => Source::Ballots { file: absolute(file)?, layout: layout(Kind::Ballots)? },
            _ => Source::Simulation {
                folder: args.election.as_ref().map(absolute).transpose()?,
                voters: args.voters.or_else(|| args.election.is_none().then_some(VOTERS)),
            },
        };
        let is_simulation = matches!(source, Source::Simulation { .. });
        let speed = args.speed.unwrap_or(Speed::Times(1.0));
        let day = args.day.unwrap_or(DAY);
        let (day, at_once) = match speed {
            Speed::Max => (day, true),
            Speed::Times(times) => (day.div_f64(times).max(Duration::from_secs(1)), false),
        };
        let day_ms = day.as_millis() as i64;
        // A day whose votes are written at once is already over: nobody votes in the future.
        let opens_at_ms = if at_once { now_ms() - day_ms } else { now_ms() } / 1000 * 1000;
        Ok(Run {
            source,
            seed: args.seed.unwrap_or(1),
            faults: args.faults.rates(is_simulation)?,
            opens_at_ms,
            day_ms,
            at_once,
            sha256: None,
        })
    }
}
