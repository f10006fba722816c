//! `scrutin count --engine spark`. Without the feature `spark` it says how to build the program with it.

#[cfg(not(feature = "spark"))]
mod absent;
#[cfg(feature = "spark")]
mod present;

#[cfg(not(feature = "spark"))]
pub(super) use absent::Count;
#[cfg(feature = "spark")]
pub(super) use present::Count;

/// The options of `--engine spark`.
#[derive(clap::Args)]
#[command(next_help_heading = "Options of --engine spark")]
pub(super) struct SparkArgs {
    /// Spark Connect server, as sc://host:port, optionally followed by /;use_ssl=true
    #[arg(long, env = "SCRUTIN_SPARK", hide_env = true, value_name = "URL")]
    spark: Option<String>,
    /// Token for the server; prefer SCRUTIN_SPARK_TOKEN to the command line
    #[arg(long, env = "SCRUTIN_SPARK_TOKEN", hide_env = true, hide_env_values = true, value_name = "TOKEN")]
    spark_token: Option<String>,
    /// Folder where Spark keeps its progress and who has voted: a path that Spark can reach, or a Hadoop file system URL
    #[arg(long, env = "SCRUTIN_CHECKPOINT", hide_env = true, value_name = "PATH")]
    checkpoint: Option<String>,
    /// Topic for the running totals, on the log's brokers; created if missing
    #[arg(long, env = "SCRUTIN_TALLIES", hide_env = true, value_name = "TOPIC", default_value = "tallies")]
    tallies: String,
    /// Maximum votes in a Spark batch: larger batches count a backlog faster, smaller ones show votes sooner
    #[arg(
        long,
        env = "SCRUTIN_BATCH_VOTES", hide_env = true,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..),
    )]
    batch_votes: u64,
    /// A setting for the Spark session, such as spark.sql.shuffle.partitions=8; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    spark_conf: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
