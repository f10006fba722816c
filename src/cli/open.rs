//! Opens what the settings name: the log, and a PostgreSQL server, given or private.

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

/// The database to use, and its server if it is a private one.
pub(super) struct Store {
    pub database: Database,
    cluster: Option<Cluster>,
}

impl Store {
    /// Opens the given database, or the private one, starting its server if necessary.
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

    /// [`Store::open`], for a database that this version of the program must have set up.
    pub async fn open_ready(settings: &Settings) -> Result<Store> {
        let store = Store::open(settings).await?;
        migrate::verify(&store.database).await?;
        Ok(store)
    }

    /// [`Store::open`] for commands that only read: a missing data folder is an error.
    pub async fn open_existing(settings: &Settings) -> Result<Store> {
        if settings.database_url.is_none() && !settings.data_dir.exists() {
            anyhow::bail!(
                "there is no data folder {}; create one with `scrutin demo` or `scrutin setup`, or name another with \
                 --data-dir",
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

    /// Stops the private server, if there is one and no other process uses it.
    pub async fn close(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.stop().await.context("stop the private PostgreSQL"),
            None => Ok(()),
        }
    }
}

/// Opens the log, creating it if necessary.
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

/// Opens the log, which must exist.
pub(super) async fn open_existing_log(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    Ok(match &settings.log {
        LogSettings::Embedded(dir) => Arc::new(EmbeddedLog::open_existing(dir)?),
        LogSettings::Kafka { address, client, .. } => Arc::new(KafkaLog::open_existing(address, client).await?),
    })
}

/// Opens the log, which must exist, for a process that counts it.
pub(super) async fn open_log_to_count(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    let LogSettings::Kafka { address, client, .. } = &settings.log else {
        return open_existing_log(settings).await;
    };
    let log = KafkaLog::open_existing(address, client).await?;
    Ok(Arc::new(match InstanceId::keep(&settings.data_dir) {
        Ok(instance) => log.as_instance(instance),
        Err(error) => {
            tracing::info!(
                "{} cannot store this counter's name ({error}); after a kill, it waits until its session expires",
                settings.data_dir.display()
            );
            log
        }
    }))
}

/// Exit code after an immediate stop, as shells report SIGINT.
const INTERRUPTED: u8 = 130;

/// A stream of Ctrl-C and SIGTERM.
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

/// Runs a command that a signal may end at any point without loss. On a signal the command is dropped, so that its
/// private PostgreSQL stops too.
pub(super) async fn unless_interrupted(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = command => done,
        () = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Requests a stop on Ctrl-C or SIGTERM; a second signal ends the process at once.
pub(super) fn stop_at_signal() -> Result<Arc<Stop>> {
    let stop = Arc::new(Stop::default());
    let mut signals = Signals::listen()?;
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        signals.next().await;
        say("\nscrutin: stopping after the current work; press Ctrl-C again to stop at once");
        asked.ask();
        signals.next().await;
        say("\nscrutin: stopped at once; run it again to resume");
        #[expect(clippy::disallowed_methods, reason = "requested twice; the next start adopts the private PostgreSQL")]
        std::process::exit(INTERRUPTED.into());
    });
    Ok(stop)
}
