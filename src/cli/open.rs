//! Opens what the settings name: the log, and a PostgreSQL, given or private.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use scrutin_log::kafka::{InstanceId, NewTopic};
use scrutin_log::{EmbeddedLog, KafkaLog, PARTITIONS, VoteLog};
use scrutin_pipeline::Stop;
use scrutin_postgres::Cluster;
use scrutin_store::{Database, Role, migrate};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_postgres::Client;

use super::table::say;
use crate::config::{LogSettings, Settings, read_secret};

/// The database to use, and the server behind it if it is a private one.
pub(super) struct Store {
    pub database: Database,
    cluster: Option<Cluster>,
}

impl Store {
    /// The given database, or the private one, started if need be.
    pub async fn open(settings: &Settings) -> Result<Store> {
        match &settings.database_url {
            Some(url) => {
                let mut database = Database::parse(url)?;
                if let Some(file) = &settings.database_password_file {
                    database = database.with_password(&read_secret(file)?);
                }
                Ok(Store { database, cluster: None })
            }
            None => {
                let cluster = Cluster::start(&settings.data_dir).await?;
                Ok(Store { database: cluster.database(), cluster: Some(cluster) })
            }
        }
    }

    /// The database to use, which must have been set up by this version of the program.
    pub async fn open_ready(settings: &Settings) -> Result<Store> {
        let store = Store::open(settings).await?;
        migrate::verify(&store.database).await?;
        Ok(store)
    }

    /// [`Store::open`] for commands that only look: a data folder that is not there is not made.
    pub async fn open_existing(settings: &Settings) -> Result<Store> {
        if settings.database_url.is_none() && !settings.data_dir.exists() {
            anyhow::bail!(
                "there is no data folder {}; `scrutin demo` or `scrutin setup` makes one, --data-dir names another",
                settings.data_dir.display()
            );
        }
        Store::open(settings).await
    }

    pub fn psql_command(&self) -> Option<String> {
        self.cluster.as_ref().map(Cluster::psql_command)
    }

    pub async fn client(&self, role: Role) -> Result<Client> {
        Ok(self.database.connect(role).await?)
    }

    /// Stops the private server, if there is one and nobody else uses it.
    pub async fn close(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await.context("stop the private PostgreSQL"),
            None => Ok(()),
        }
    }
}

/// The log, made if need be.
pub(super) async fn open_log(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    let partitions = settings.partitions;
    Ok(match &settings.log {
        LogSettings::Embedded(dir) => Arc::new(match partitions {
            None if dir.join("log.json").exists() => EmbeddedLog::open_existing(dir)?,
            partitions => EmbeddedLog::open(dir, partitions.unwrap_or(PARTITIONS))?,
        }),
        LogSettings::Kafka { address, client, replication, min_insync } => {
            let new = NewTopic { partitions, replication: *replication, min_insync: *min_insync };
            Arc::new(KafkaLog::open(address, client, &new).await?)
        }
    })
}

/// The log, which must be there.
pub(super) async fn open_existing_log(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    Ok(match &settings.log {
        LogSettings::Embedded(dir) => Arc::new(EmbeddedLog::open_existing(dir)?),
        LogSettings::Kafka { address, client, .. } => Arc::new(KafkaLog::open_existing(address, client).await?),
    })
}

/// The log, which must be there, for a process that counts it.
pub(super) async fn open_log_to_count(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    let LogSettings::Kafka { address, client, .. } = &settings.log else {
        return open_existing_log(settings).await;
    };
    let log = KafkaLog::open_existing(address, client).await?;
    Ok(Arc::new(match InstanceId::keep(&settings.data_dir) {
        Ok(instance) => log.as_instance(instance),
        Err(error) => {
            tracing::info!(
                "{} cannot keep this counter's name ({error}); after a kill it waits until its session has ended",
                settings.data_dir.display()
            );
            log
        }
    }))
}

/// The exit code after a stop that waited for nothing, as shells have it.
const INTERRUPTED: u8 = 130;

/// Ctrl-C and SIGTERM, one after the other.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).context("listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs a command that nothing is lost with when a signal ends it. What it holds is dropped then, so that a private
/// PostgreSQL does not stay behind.
pub(super) async fn unless_interrupted(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = command => done,
        () = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Asks for a stop at Ctrl-C or SIGTERM; a second one ends the process at once.
pub(super) fn stop_at_signal() -> Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let mut signals = Signals::listen()?;
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        signals.next().await;
        say("\nscrutin: stopping when what is in hand is done; Ctrl-C again stops at once");
        asked.ask();
        signals.next().await;
        say("\nscrutin: stopped at once; run again, it goes on where it was");
        #[expect(clippy::disallowed_methods, reason = "asked for twice; the next start adopts the private PostgreSQL")]
        std::process::exit(INTERRUPTED.into());
    });
    Ok(stop)
}
