//! Settings: flags override the environment, which overrides `scrutin.toml`, which overrides the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use scrutin_files::FileError;
use scrutin_log::kafka::{KafkaAddress, KafkaSettings};
use scrutin_page::PageOptions;
use serde::Deserialize;

/// Settings that every command accepts.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Settings file [default: ./scrutin.toml, if it exists]
    #[arg(long, global = true, env = "SCRUTIN_CONFIG", hide_env = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Folder for all data: the log, and a private PostgreSQL [default: scrutin-data]
    #[arg(long, global = true, env = "SCRUTIN_DATA_DIR", hide_env = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The log that holds the votes: a folder, or a Kafka topic as kafka://host:port,host:port/topic [default:
    /// DATA_DIR/log; topic votes]
    #[arg(long, global = true, env = "SCRUTIN_LOG", hide_env = true, value_name = "DIR|URL")]
    pub log: Option<String>,

    /// File with Kafka client settings, one name=value per line, with librdkafka's names: security.protocol,
    /// sasl.username and so on
    #[arg(long, global = true, env = "SCRUTIN_KAFKA_CONFIG", hide_env = true, value_name = "FILE")]
    pub kafka_config: Option<PathBuf>,

    /// PostgreSQL to use, as postgresql://user:password@host:port/name [default: DATABASE_URL, else a private
    /// server in the data folder]. `ps` shows a password given here to every user of the machine: prefer DATABASE_URL or
    /// --database-password-file
    #[arg(long, global = true, env = "SCRUTIN_DATABASE_URL", hide_env = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// File with the password for the database, instead of a password in its address
    #[arg(long, global = true, env = "SCRUTIN_DATABASE_PASSWORD_FILE", hide_env = true, value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// Name of the counter in the tables [default: native, or spark with --engine spark]
    #[arg(long, global = true, env = "SCRUTIN_COUNTER", hide_env = true, value_name = "NAME")]
    pub counter: Option<String>,

    /// Partitions of a new log [default: 4]
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_PARTITIONS", hide_env = true,
        value_name = "N",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=1024),
    )]
    pub partitions: Option<u32>,

    /// Replicas of each partition of a new topic [default: 3, or as many as there are brokers]
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_REPLICATION", hide_env = true,
        value_name = "N",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=100),
    )]
    pub replication: Option<u32>,

    /// Replicas of a new topic that must hold a vote before it is acknowledged [default: all but one, at least 1]
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_MIN_INSYNC", hide_env = true,
        value_name = "N",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=100),
    )]
    pub min_insync: Option<u32>,

    /// Counting threads [default: 2]
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_WORKERS", hide_env = true,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..),
    )]
    pub workers: Option<usize>,

    /// Address of the page and the API [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "SCRUTIN_LISTEN", hide_env = true, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,

    /// Path under which to serve the page and the API, such as /night, for a proxy that does not strip it [default: /]
    #[arg(long, global = true, env = "SCRUTIN_PATH_PREFIX", hide_env = true, value_name = "PATH")]
    pub path_prefix: Option<String>,

    /// Requests to the API allowed per client per second, with bursts of four times as many; 0: no limit [default: 50]
    #[arg(long, global = true, env = "SCRUTIN_REQUESTS_PER_SECOND", hide_env = true, value_name = "N")]
    pub requests_per_second: Option<u32>,

    /// Identify clients by the last entry of X-Forwarded-For, which a proxy in front must set [default: false]
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_BEHIND_PROXY", hide_env = true,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
    )]
    pub behind_proxy: Option<bool>,

    /// Log level for stderr: off, error, warn, info, debug or trace [default: warn]
    #[arg(long, global = true, env = "SCRUTIN_LOG_LEVEL", hide_env = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// `scrutin.toml`. The keys are the names of the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    data_dir: Option<PathBuf>,
    log: Option<String>,
    kafka_config: Option<PathBuf>,
    database_url: Option<String>,
    database_password_file: Option<PathBuf>,
    counter: Option<String>,
    partitions: Option<u32>,
    replication: Option<u32>,
    min_insync: Option<u32>,
    workers: Option<usize>,
    listen: Option<SocketAddr>,
    path_prefix: Option<String>,
    requests_per_second: Option<u32>,
    behind_proxy: Option<bool>,
    log_level: Option<String>,
}

/// The effective settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub log: LogSettings,
    /// None: a private PostgreSQL in the data folder.
    pub database_url: Option<String>,
    pub database_password_file: Option<PathBuf>,
    pub counter: String,
    /// Whether the counter was set, rather than defaulted.
    pub is_counter_given: bool,
    /// None: as many as the log has; 4 for a new log.
    pub partitions: Option<u32>,
    pub workers: usize,
    pub listen: SocketAddr,
    pub page: PageOptions,
    pub log_level: tracing_subscriber::filter::LevelFilter,
}

/// Where the votes are.
#[derive(Clone, Debug)]
pub enum LogSettings {
    /// In a folder.
    Embedded(PathBuf),
    /// In a topic.
    Kafka {
        address: KafkaAddress,
        client: KafkaSettings,
        /// For a new topic, as in [`kafka::NewTopic`](scrutin_log::kafka::NewTopic); likewise `min_insync`.
        replication: Option<u32>,
        min_insync: Option<u32>,
    },
}

impl Settings {
    /// Merges flags, environment, settings file and defaults.
    ///
    /// # Errors
    ///
    /// If the settings file or the Kafka settings cannot be read, or a value is invalid.
    pub fn resolve(args: CommonArgs) -> Result<Settings, FileError> {
        let path = args.config.clone().unwrap_or_else(|| "scrutin.toml".into());
        let file = if args.config.is_some() || path.exists() { read(&path)? } else { ConfigFile::default() };
        // The error names the place of the value: the flag or the settings file.
        let at = |key: &str, is_given: bool, what: String| {
            let place = if is_given { given(key).into() } else { path.clone() };
            let what = if is_given { what } else { format!("`{key}`: {what}") };
            FileError::Whole { path: place, what }
        };

        let data_dir = args.data_dir.or(file.data_dir).unwrap_or_else(|| "scrutin-data".into());
        let is_given = args.log.is_some();
        let log = args.log.or(file.log);
        let log = match log {
            Some(address) if address.contains("://") => LogSettings::Kafka {
                address: address
                    .parse()
                    .map_err(|what| at("log", is_given, format!("found `{}`: {what}", without_user(&address))))?,
                client: match args.kafka_config.or(file.kafka_config) {
                    Some(path) => KafkaSettings::read(&path)?,
                    None => KafkaSettings::default(),
                },
                replication: args.replication.or(file.replication),
                min_insync: args.min_insync.or(file.min_insync),
            },
            folder => LogSettings::Embedded(folder.map_or_else(|| data_dir.join("log"), PathBuf::from)),
        };
        let is_given = args.counter.is_some();
        let counter = args.counter.or(file.counter);
        let is_counter_given = counter.is_some();
        let counter = counter.unwrap_or_else(|| "native".into());
        scrutin_contract::election::check_code(&counter).map_err(|what| at("counter", is_given, what))?;
        let is_given = args.log_level.is_some();
        let log_level = args.log_level.or(file.log_level).unwrap_or_else(|| "warn".into());
        let log_level = log_level.parse().map_err(|_| {
            let what = format!("found `{log_level}`, expected off, error, warn, info, debug or trace");
            at("log-level", is_given, what)
        })?;
        let is_given = args.path_prefix.is_some();
        let path_prefix = args.path_prefix.or(file.path_prefix).unwrap_or_default();
        let page = PageOptions::default();
        let page = PageOptions {
            path_prefix: path_prefix.parse().map_err(|what| at("path-prefix", is_given, what))?,
            requests_per_second: args
                .requests_per_second
                .or(file.requests_per_second)
                .unwrap_or(page.requests_per_second),
            behind_proxy: args.behind_proxy.or(file.behind_proxy).unwrap_or(page.behind_proxy),
        };
        Ok(Settings {
            log,
            data_dir,
            page,
            // An empty variable counts as unset.
            database_url: [args.database_url, std::env::var("DATABASE_URL").ok(), file.database_url]
                .into_iter()
                .flatten()
                .find(|url| !url.is_empty()),
            database_password_file: args.database_password_file.or(file.database_password_file),
            counter,
            is_counter_given,
            partitions: args.partitions.or(file.partitions),
            workers: args.workers.or(file.workers).unwrap_or(2).max(1),
            listen: args.listen.or(file.listen).unwrap_or_else(|| ([127, 0, 0, 1], 8080).into()),
            log_level,
        })
    }
}

/// Reads a secret from a file, without the trailing line ending.
///
/// # Errors
///
/// If the file cannot be read or is empty.
pub fn read_secret(path: &Path) -> Result<String, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(FileError::Whole { path: path.to_owned(), what: "is empty; expected a password".into() });
    }
    Ok(secret.to_owned())
}

/// An address without user and password.
fn without_user(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => address.to_owned(),
    }
}

/// The names of a setting's flag and variable.
fn given(key: &str) -> String {
    format!("--{key} or SCRUTIN_{}", key.to_uppercase().replace('-', "_"))
}

fn read(path: &Path) -> Result<ConfigFile, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count() as u64);
        FileError::At { path: path.to_owned(), line, column: None, what: error.message().to_owned() }
    })
}
