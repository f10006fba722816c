//! Settings: flags beat the environment, which beats `scrutin.toml`, which beats the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use crate::csv_file::FileError;

/// Settings that every command understands.
#[derive(Args, Clone, Debug, Default)]
pub struct CommonArgs {
    /// File with settings; without it, ./scrutin.toml if there is one
    #[arg(long, global = true, env = "SCRUTIN_CONFIG", value_name = "FILE", help_heading = "Common options")]
    pub config: Option<PathBuf>,

    /// Folder for the log and for a PostgreSQL of its own [default: scrutin-data]
    #[arg(long, global = true, env = "SCRUTIN_DATA_DIR", value_name = "DIR", help_heading = "Common options")]
    pub data_dir: Option<PathBuf>,

    /// Where the votes are: a folder [default: DATA_DIR/log]
    #[arg(long, global = true, env = "SCRUTIN_LOG", value_name = "DIR", help_heading = "Common options")]
    pub log: Option<String>,

    /// PostgreSQL to use, as postgresql://user:password@host:port/name (also DATABASE_URL);
    /// without it, one of its own is started in the data folder
    #[arg(
        long,
        global = true,
        env = "SCRUTIN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Common options"
    )]
    pub database_url: Option<String>,

    /// Name under which the count stands in the tables [default: native]
    #[arg(long, global = true, env = "SCRUTIN_COUNTER", value_name = "NAME", help_heading = "Common options")]
    pub counter: Option<String>,

    /// Partitions of a log that is made anew [default: 4]
    #[arg(long, global = true, env = "SCRUTIN_PARTITIONS", value_name = "N", help_heading = "Common options")]
    pub partitions: Option<u32>,

    /// Threads that count [default: 2]
    #[arg(long, global = true, env = "SCRUTIN_WORKERS", value_name = "N", help_heading = "Common options")]
    pub workers: Option<usize>,

    /// Address of the page and the API [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "SCRUTIN_LISTEN", value_name = "ADDRESS", help_heading = "Common options")]
    pub listen: Option<SocketAddr>,

    /// How much is logged to stderr: off, error, warn, info, debug, trace [default: warn]
    #[arg(long, global = true, env = "SCRUTIN_LOG_LEVEL", value_name = "LEVEL", help_heading = "Common options")]
    pub log_level: Option<String>,
}

/// `scrutin.toml`. The keys are the flags' names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    data_dir: Option<PathBuf>,
    log: Option<String>,
    database_url: Option<String>,
    counter: Option<String>,
    partitions: Option<u32>,
    workers: Option<usize>,
    listen: Option<SocketAddr>,
    log_level: Option<String>,
}

/// What holds, after all.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// The embedded log's folder.
    pub log_dir: PathBuf,
    /// None: a private PostgreSQL in the data folder.
    pub database_url: Option<String>,
    pub counter: String,
    pub partitions: u32,
    pub workers: usize,
    pub listen: SocketAddr,
    pub log_level: tracing_subscriber::filter::LevelFilter,
}

impl Settings {
    /// Settles what flags and environment leave open.
    pub fn resolve(args: CommonArgs) -> Result<Settings, FileError> {
        let path = args.config.clone().unwrap_or_else(|| "scrutin.toml".into());
        let file = if args.config.is_some() || path.exists() { read(&path)? } else { ConfigFile::default() };
        let at = |key: &str, what: String| FileError::Whole { path: path.clone(), what: format!("`{key}`: {what}") };

        let data_dir = args.data_dir.or(file.data_dir).unwrap_or_else(|| "scrutin-data".into());
        let log = args.log.or(file.log);
        if let Some(address) = log.as_ref().filter(|log| log.contains("://")) {
            let what =
                format!("found `{address}`, expected a folder: this version keeps the votes in an embedded log only");
            return Err(at("log", what));
        }
        let counter = args.counter.or(file.counter).unwrap_or_else(|| "native".into());
        crate::election::check_code(&counter).map_err(|what| at("counter", what))?;
        let log_level = args.log_level.or(file.log_level).unwrap_or_else(|| "warn".into());
        Ok(Settings {
            log_dir: log.map_or_else(|| data_dir.join("log"), PathBuf::from),
            data_dir,
            database_url: args
                .database_url
                .or_else(|| std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()))
                .or(file.database_url),
            counter,
            partitions: args.partitions.or(file.partitions).unwrap_or(4),
            workers: args.workers.or(file.workers).unwrap_or(2).max(1),
            listen: args.listen.or(file.listen).unwrap_or_else(|| ([127, 0, 0, 1], 8080).into()),
            log_level: log_level.parse().map_err(|_| {
                at("log-level", format!("found `{log_level}`, expected off, error, warn, info, debug or trace"))
            })?,
        })
    }
}

fn read(path: &Path) -> Result<ConfigFile, FileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count() as u64);
        FileError::At { path: path.to_owned(), line, column: None, what: error.message().to_owned() }
    })
}
