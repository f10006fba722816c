//! `scrutin simulate` and `scrutin replay`, and the sources of votes that they share with the demo.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use scrutin_contract::election::Election;
use scrutin_contract::truth::Truth;
use scrutin_files::FileError;
use scrutin_log::VoteLog;
use scrutin_pipeline::Stop;
use scrutin_producer::replay::layout::{Kind, OWN};
use scrutin_producer::replay::{self, About, BallotFile, Finding, Layout};
use scrutin_producer::simulate::{self, Ballots, Delivery, FaultRates, Plan, SendProgress, Speed};
use scrutin_store::{Role, elections, migrate};
use serde::{Deserialize, Serialize};

use super::UsageError;
use super::open::{Store, open_existing_log, open_log, stop_at_signal};
use super::progress::{Line, View};
use super::reading::{ReadingArgs, print_findings};
use super::table::{grouped, print, say};
use crate::config::Settings;

/// A heading in the help.
const FAULTS: &str = "Faults";

/// Threads that produce votes, each for its own partitions.
const THREADS: usize = 2;

#[derive(clap::Args)]
pub(super) struct SimulateArgs {
    /// The election in the database; required if there are several
    #[arg(long, value_name = "ID")]
    election: Option<String>,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(clap::Args)]
pub(super) struct ReplayArgs {
    #[command(subcommand)]
    what: Replay,
}

#[derive(clap::Subcommand)]
enum Replay {
    /// Real results by region: a table with the columns region_code, region_name, registered, abstentions, blank, null,
    /// candidate, votes, and optionally candidate_id, or as described by a layout or the options below
    Results {
        /// The file: CSV, maybe packed, or a spreadsheet; `scrutin inspect` shows how it is read
        file: PathBuf,
        /// What the election is called [default: the file's name]
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        #[command(flatten)]
        reading: Box<ReadingArgs>,
        #[command(flatten)]
        day: DayArgs,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Real ballots: a table with one row per ballot
    Ballots {
        /// The file: CSV, maybe packed, or a spreadsheet; `scrutin inspect` shows how it is read
        file: PathBuf,
        /// What the election is called [default: the file's name]
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        #[command(flatten)]
        reading: Box<ReadingArgs>,
        #[command(flatten)]
        day: DayArgs,
        #[command(flatten)]
        how: HowArgs,
    },
}

/// How votes are produced and sent.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct HowArgs {
    /// Seed: the same seed produces the same votes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Speed as a multiple of the election's own day; max writes all votes at once
    #[arg(long, value_name = "X", default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    #[command(flatten)]
    pub faults: FaultArgs,
    /// Where to write the ground truth, the result that a count must reach, for `audit --truth` [default:
    /// DATA_DIR/truth.json]
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
}

/// [`HowArgs`], checked and completed.
struct How {
    seed: u64,
    speed: Speed,
    faults: FaultRates,
    truth: PathBuf,
}

impl HowArgs {
    /// Checks the options before the first vote is written.
    fn settle(self, demo_faults: bool, settings: &Settings) -> Result<How> {
        let truth = self.truth.unwrap_or_else(|| settings.data_dir.join("truth.json"));
        let folder = truth.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| **folder != settings.data_dir && !folder.is_dir()) {
            let what = format!("--truth {}: there is no folder {}", truth.display(), folder.display());
            return Err(UsageError(what).into());
        }
        Ok(How { seed: self.seed, speed: self.speed, faults: self.faults.rates(demo_faults)?, truth })
    }
}

#[derive(clap::Args, Clone, Debug)]
pub(super) struct FaultArgs {
    /// Faults to inject: none, or a few of each kind [default: demo for simulated votes, none for real ones]
    #[arg(long, value_name = "PRESET", help_heading = FAULTS, value_parser = PossibleValuesParser::new(["none", "demo"]).map(|name| name == "demo"))]
    faults: Option<bool>,
    /// The rate of one kind, as a share of the ballots: redelivery=0.01. Can be repeated. Kinds: redelivery,
    /// double_vote, malformed, misrouted, unknown_election, unknown_region, unknown_choice, unknown_channel,
    /// too_early, too_late, delay
    #[arg(long = "fault", value_name = "KIND=RATE", help_heading = FAULTS)]
    rates: Vec<String>,
}

impl FaultArgs {
    pub fn is_given(&self) -> bool {
        self.faults.is_some() || !self.rates.is_empty()
    }

    /// The rates; `demo` selects the preset if none is given.
    pub fn rates(&self, demo: bool) -> Result<FaultRates> {
        let preset = if self.faults.unwrap_or(demo) { FaultRates::demo() } else { FaultRates::none() };
        let mut kinds = match serde_json::to_value(preset)? {
            serde_json::Value::Object(kinds) => kinds,
            _ => return Err(anyhow!("fault rates have kinds")),
        };
        for text in &self.rates {
            let wrong = |what: &str| UsageError(format!("--fault {text}: {what}"));
            let (kind, rate) = text.split_once('=').ok_or_else(|| wrong("expected KIND=RATE"))?;
            let rate = rate.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
            let rate: f64 = rate.ok_or_else(|| wrong("expected a number from 0 to 1 after the ="))?;
            if kinds.insert(kind.to_owned(), rate.into()).is_none() {
                return Err(wrong("no such kind; `scrutin help simulate` lists them").into());
            }
        }
        let rates: FaultRates = serde_json::from_value(kinds.into())?;
        rates.check().map_err(|what| UsageError(format!("--fault: {what}")))?;
        Ok(rates)
    }
}

/// When the votes are cast.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct DayArgs {
    /// Let the voting day open now and last this long, such as 5m or 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub day: Option<Duration>,
    /// When the voting day opens, such as 2027-04-11T08:00:00+02:00 [default: from the election; for a replay, 08:00
    /// UTC yesterday]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub opens_at: Option<i64>,
}

impl DayArgs {
    /// The requested day; none if no option was given.
    pub fn day(&self, length_ms: i64) -> Option<Day> {
        if self.day.is_none() && self.opens_at.is_none() {
            return None;
        }
        let opens_at_ms = self.opens_at.unwrap_or_else(|| now_ms() / 1000 * 1000);
        Some(Day::laid(opens_at_ms, self.day.map_or(length_ms, |day| day.as_millis() as i64)))
    }

    /// The day of a replay; yesterday if no option was given.
    pub fn of_replay(&self) -> Day {
        self.day(TWELVE_HOURS_MS).unwrap_or_else(|| Day::laid(yesterday_ms() + 8 * HOUR_MS, TWELVE_HOURS_MS))
    }
}

const HOUR_MS: i64 = 3_600_000;
const TWELVE_HOURS_MS: i64 = 12 * HOUR_MS;

fn yesterday_ms() -> i64 {
    (now_ms().div_euclid(24 * HOUR_MS) - 1) * 24 * HOUR_MS
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The allowed speeds of a day.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.0001..=1_000_000.0;

pub(super) fn parse_speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        _ => match text.parse::<f64>() {
            Ok(times) if SPEEDS.contains(&times) => Ok(Speed::Times(times)),
            _ => Err(format!("expected a number from {} to {}, or max", SPEEDS.start(), SPEEDS.end())),
        },
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => f64::NAN,
    };
    match digits.parse::<f64>().map(|number| number * unit) {
        Ok(seconds) if (1.0..=366.0 * 86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a duration from 1s to 366d, such as 90s, 5m or 12h".into()),
    }
}

fn parse_time(text: &str) -> Result<i64, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond)
        .map_err(|_| "expected a date, a time and an offset, as 2027-04-11T08:00:00+02:00".into())
}

/// The election of a folder, or the built-in one, scaled to a number of registered voters if given.
pub(super) fn base_election(folder: Option<&Path>, voters: Option<u64>) -> Result<Election> {
    let election = match folder {
        Some(folder) => Election::load(folder)?,
        None => Election::built_in(),
    };
    Ok(match voters {
        Some(voters) => simulate::scaled(&election, voters),
        None => election,
    })
}

/// Where votes come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Source {
    Simulation { folder: Option<PathBuf>, voters: Option<u64> },
    Results { file: PathBuf, layout: Box<Layout> },
    Ballots { file: PathBuf, layout: Box<Layout> },
}

/// Votes ready to send.
pub(super) enum Votes {
    Plan(Box<Plan>),
    Ballots(Box<BallotFile>),
}

/// When the votes of a source are cast, in milliseconds since 1970 UTC, and the election's title.
#[derive(Clone, Debug)]
pub(super) struct Day {
    pub opens_at_ms: i64,
    pub closes_at_ms: i64,
    pub bucket_seconds: u32,
    pub title: Option<String>,
}

impl Day {
    /// A day with timeline buckets that suit its length: up to 150 of them, of a minute at most.
    pub fn laid(opens_at_ms: i64, length_ms: i64) -> Day {
        const BUCKETS: i64 = 150;
        let fits =
            [1, 2, 5, 10, 15, 30].into_iter().find(|seconds| length_ms / (i64::from(*seconds) * 1000) <= BUCKETS);
        Day { opens_at_ms, closes_at_ms: opens_at_ms + length_ms, bucket_seconds: fits.unwrap_or(60), title: None }
    }

    pub fn put_into(&self, election: &mut Election) {
        (election.opens_at_ms, election.closes_at_ms) = (self.opens_at_ms, self.closes_at_ms);
        election.bucket_seconds = self.bucket_seconds;
    }

    fn about(&self) -> About {
        About {
            id: None,
            title: self.title.clone(),
            opens_at_ms: self.opens_at_ms,
            closes_at_ms: self.closes_at_ms,
            time_zone: "UTC".into(),
            channels: vec!["booth".into()],
            bucket_seconds: self.bucket_seconds,
        }
    }
}

/// Adds the layout that would fit to an error about the project's own form.
fn with_layout(file: &Path, layout: &Layout, error: FileError) -> anyhow::Error {
    let is_plain = layout.name == OWN && layout.required.is_empty();
    let found =
        replay::detect::fitting(file, &layout.file).ok().flatten().filter(|found| is_plain && found.name != OWN);
    match found {
        Some(found) if found.kind == Kind::Ballots => {
            let what = format!("this looks like the layout `{0}`: read it with --ballots and --layout {0}", found.name);
            anyhow::Error::new(error).context(what)
        }
        Some(found) => {
            let what = format!("this looks like the layout `{0}`: read it with --layout {0}", found.name);
            anyhow::Error::new(error).context(what)
        }
        None => error.into(),
    }
}

impl Source {
    /// The file with the votes, if any.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Source::Simulation { .. } => None,
            Source::Results { file, .. } | Source::Ballots { file, .. } => Some(file),
        }
    }

    /// The id of the election in a file.
    fn election_id(&self) -> String {
        match self {
            Source::Simulation { .. } => String::new(),
            Source::Results { file, .. } | Source::Ballots { file, .. } => replay::election_id(file),
        }
    }

    /// Reads what is needed to send the votes, and prints what looks wrong in the file. Also returns the file's hash.
    pub fn open(&self, seed: u64, day: &Day, data_dir: &Path) -> Result<(Votes, Option<String>)> {
        let Some(file) = self.file().map(Path::to_owned) else { return Ok((self.read(seed, day, data_dir)?.0, None)) };
        // In parallel with reading, which takes longer.
        let hash = std::thread::spawn(move || replay::inspect::hash(&file));
        let (votes, findings) = self.read(seed, day, data_dir)?;
        let (sha256, _) = hash.join().map_err(|_| anyhow!("the thread that hashes the file panicked"))??;
        if let Source::Results { file, layout } | Source::Ballots { file, layout } = self {
            print_findings(file, &sha256, layout, &findings);
        }
        Ok((votes, Some(sha256)))
    }

    fn read(&self, seed: u64, day: &Day, data_dir: &Path) -> Result<(Votes, Vec<Finding>)> {
        match self {
            Source::Simulation { folder, voters } => {
                let mut election = base_election(folder.as_deref(), *voters)?;
                day.put_into(&mut election);
                Ok((Votes::drawn(election, seed)?, Vec::new()))
            }
            Source::Results { file, layout } => {
                let read = replay::results::read(file, layout, &day.about(), seed);
                let (plan, findings) = read.map_err(|error| with_layout(file, layout, error))?;
                Ok((Votes::Plan(Box::new(plan)), findings))
            }
            Source::Ballots { file, layout } => {
                let key = voter_key(data_dir)?;
                let ballots = BallotFile::open(file, (**layout).clone(), &day.about(), key, seed)?;
                let findings = ballots.findings().to_vec();
                Ok((Votes::Ballots(Box::new(ballots)), findings))
            }
        }
    }
}

/// The secret key that turns the ids in a file of ballots into pseudonyms; created on first use.
fn voter_key(data_dir: &Path) -> Result<[u8; 32]> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = data_dir.join("voter.key");
    let error = || format!("read or write {}", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| anyhow!("{} does not have 32 bytes; restore the original file", path.display())),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| anyhow!("cannot get random numbers from the system: {error}"))?;
            std::fs::create_dir_all(data_dir).with_context(error)?;
            let draft = path.with_extension("key.new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)
                .with_context(error)?;
            file.write_all(&key).and_then(|()| file.sync_all()).with_context(error)?;
            std::fs::rename(&draft, &path).with_context(error)?;
            Ok(key)
        }
        Err(other) => Err(other).with_context(error),
    }
}

impl Votes {
    fn drawn(election: Election, seed: u64) -> Result<Votes> {
        Ok(Votes::Plan(Box::new(Plan::draw(election, seed).map_err(anyhow::Error::msg)?)))
    }

    pub fn election(&self) -> &Election {
        match self {
            Votes::Plan(plan) => plan.election(),
            Votes::Ballots(file) => file.election(),
        }
    }

    /// Sends the votes from their own threads. Returns the truth that a count must match, or none after a stop.
    pub async fn send(
        self,
        faults: FaultRates,
        log: Arc<dyn VoteLog>,
        speed: Speed,
        progress: Arc<SendProgress>,
        stop: Arc<Stop>,
    ) -> Result<Option<Truth>> {
        let send = move || {
            let delivery = Delivery { log: &*log, speed, threads: THREADS, progress: &progress, stop: stop.flag() };
            match &self {
                Votes::Plan(plan) => simulate::run(&**plan, &faults, &delivery),
                Votes::Ballots(file) => simulate::run(&**file, &faults, &delivery),
            }
        };
        tokio::task::spawn_blocking(send).await.context("make the votes")?
    }
}

pub(super) async fn simulate(args: SimulateArgs, settings: Settings) -> Result<ExitCode> {
    let how = args.how.settle(true, &settings)?;
    let stop = stop_at_signal()?;
    let log = open_existing_log(&settings).await?;
    let store = Store::open_ready(&settings).await?;
    let elections = elections::load_all(&store.client(Role::Reader).await?).await?;
    let ids: Vec<&str> = elections.iter().map(|election| election.id.as_str()).collect();
    let list = ids.join(", ");
    let election = match (&args.election, elections.len()) {
        (_, 0) => return Err(anyhow!("there is no election in the database; `scrutin setup` loads one")),
        (None, 1) => elections[0].clone(),
        (None, _) => {
            return Err(UsageError(format!("there are several elections; choose with --election: {list}")).into());
        }
        (Some(id), _) => match elections.iter().find(|election| election.id == *id) {
            Some(election) => election.clone(),
            None => return Err(UsageError(format!("there is no election `{id}`; the database has: {list}")).into()),
        },
    };
    store.close().await?;
    let votes = Votes::drawn(election, how.seed)?;
    send(votes, how, log, stop).await
}

pub(super) async fn replay(args: ReplayArgs, settings: Settings) -> Result<ExitCode> {
    let (source, title, day, how) = match args.what {
        Replay::Results { file, title, reading, day, how } => {
            let layout = Box::new(reading.layout(Kind::Results)?);
            (Source::Results { file, layout }, title, day, how)
        }
        Replay::Ballots { file, title, reading, day, how } => {
            let layout = Box::new(reading.layout(Kind::Ballots)?);
            (Source::Ballots { file, layout }, title, day, how)
        }
    };
    let how = how.settle(false, &settings)?;
    let stop = stop_at_signal()?;
    let log = open_log(&settings).await?;
    let store = Store::open(&settings).await?;
    migrate::setup(&store.database).await?;
    let mut client = store.client(Role::Owner).await?;
    let known = elections::load_all(&client).await?;
    let known = known.iter().find(|known| known.id == source.election_id());
    let mut when = match known {
        // A repeated run resumes, on the day of the first run.
        Some(known) => Day {
            opens_at_ms: known.opens_at_ms,
            closes_at_ms: known.closes_at_ms,
            bucket_seconds: known.bucket_seconds,
            title: Some(known.title.clone()),
        },
        None => day.of_replay(),
    };
    when.title = title.or(when.title);
    let (votes, _) = source.open(how.seed, &when, &settings.data_dir)?;
    // If `setup` has loaded the election, no owner privileges are needed.
    if known != Some(votes.election()) {
        elections::save(&mut client, votes.election()).await?;
    }
    drop(client);
    store.close().await?;
    send(votes, how, log, stop).await
}

async fn send(votes: Votes, how: How, log: Arc<dyn VoteLog>, stop: Arc<Stop>) -> Result<ExitCode> {
    if let Some(folder) = how.truth.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let progress = Arc::new(SendProgress::default());
    let line = Line::start(View { votes: Some(Arc::clone(&progress)), ..View::default() });
    let sent = votes.send(how.faults, Arc::clone(&log), how.speed, progress, stop).await;
    line.end().await;
    match sent? {
        Some(truth) => {
            truth.write(&how.truth)?;
            warn_of_others(&*log, truth.records)?;
            print(&format!(
                "{} records are in the log, of which {} votes count; {} has the result that a count must reach\n",
                grouped(truth.records as i64),
                grouped(truth.counted as i64),
                how.truth.display()
            ))?;
        }
        None => print("Stopped; run it again to resume.\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns about other producers' records on Kafka: the truth includes only this run's votes.
fn warn_of_others(log: &dyn VoteLog, records: u64) -> Result<()> {
    let ends = (0..log.partitions()).map(|partition| log.offsets(partition).map(|offsets| offsets.end));
    let held = ends.sum::<Result<u64, _>>()?;
    if held > records {
        say(&format!(
            "scrutin: {} more records are in the log at {}, written by others; the truth does not include them, and \
             an audit against it will report them",
            grouped((held - records) as i64),
            log.name()
        ));
    }
    Ok(())
}
