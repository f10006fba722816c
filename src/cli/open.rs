//! Opens what the settings name: the log, and a PostgreSQL, given or private.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::config::Settings;
use crate::log::{EmbeddedLog, VoteLog};
use crate::pipeline::Stop;
use crate::postgres::Cluster;
use crate::store::{Database, Role};

/// The database to use, and the server behind it if it is a private one.
pub(super) struct Store {
    pub database: Database,
    cluster: Option<Cluster>,
}

impl Store {
    /// The given database, or the private one, started if need be.
    pub async fn open(settings: &Settings) -> Result<Store> {
        match &settings.database_url {
            Some(url) => Ok(Store { database: Database::parse(url)?, cluster: None }),
            None => {
                let cluster = Cluster::start(&settings.data_dir).await?;
                Ok(Store { database: cluster.database(), cluster: Some(cluster) })
            }
        }
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
pub(super) fn open_log(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    Ok(Arc::new(EmbeddedLog::open(&settings.log_dir, settings.partitions)?))
}

/// The log, which must be there.
pub(super) fn open_existing_log(settings: &Settings) -> Result<Arc<dyn VoteLog>> {
    Ok(Arc::new(EmbeddedLog::open_existing(&settings.log_dir)?))
}

/// Asks for a stop at Ctrl-C or SIGTERM; a second one ends the process at once.
pub(super) fn stop_at_signal() -> Result<Arc<Stop>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(Stop::default());
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked.is_asked() {
                eprintln!("\nscrutin: stopped at once; what was in hand is counted at the next start");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "asked for twice; the next start adopts the private PostgreSQL"
                )]
                std::process::exit(130);
            }
            asked.ask();
        }
    });
    Ok(stop)
}
