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
    /// Spark Connect server, as sc://host:port, and maybe /;use_ssl=true behind it
    #[arg(long, env = "SCRUTIN_SPARK", hide_env = true, value_name = "URL")]
    spark: Option<String>,
    /// Token that the server wants; better in SCRUTIN_SPARK_TOKEN than on the command line
    #[arg(long, env = "SCRUTIN_SPARK_TOKEN", hide_env = true, hide_env_values = true, value_name = "TOKEN")]
    spark_token: Option<String>,
    /// Folder that Spark reaches, where it keeps how far it is and who has voted: a path, or a URL of any Hadoop file system
    #[arg(long, env = "SCRUTIN_CHECKPOINT", hide_env = true, value_name = "PATH")]
    checkpoint: Option<String>,
    /// Topic for the running totals, at the brokers of the log; made if it is not there
    #[arg(long, env = "SCRUTIN_TALLIES", hide_env = true, value_name = "TOPIC", default_value = "tallies")]
    tallies: String,
    /// Votes in a batch of Spark's, at most: of a backlog, more are counted faster, and fewer are seen sooner
    #[arg(
        long,
        env = "SCRUTIN_BATCH_VOTES", hide_env = true,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..),
    )]
    batch_votes: u64,
    /// A setting of Spark's for its session, as spark.sql.shuffle.partitions=8; can be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    spark_conf: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
