//! Waits, longer each time, while something that the count needs is unavailable.

use std::time::Duration;

use scrutin_store::StoreError;
use scrutin_telemetry::Telemetry;

use super::{CountError, POSTGRESQL, Stop};

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(1);

pub(super) struct Retry<'a> {
    telemetry: &'a Telemetry,
    stop: &'a Stop,
    wait: Duration,
}

impl<'a> Retry<'a> {
    pub fn new(telemetry: &'a Telemetry, stop: &'a Stop) -> Retry<'a> {
        Retry { telemetry, stop, wait: FIRST }
    }

    /// Waits before the next attempt. Gives up if a stop is requested; no votes are lost, as the log holds them all.
    pub async fn wait(&mut self, part: &'static str, error: &(dyn std::error::Error + Sync)) -> Result<(), CountError> {
        self.wait_reporting(part, error, error.to_string()).await
    }

    /// [`Retry::wait`] for PostgreSQL, whose errors are not shown to the public in full.
    pub async fn wait_for_postgresql(&mut self, error: &StoreError) -> Result<(), CountError> {
        self.wait_reporting(POSTGRESQL, error, error.public_message()).await
    }

    async fn wait_reporting(
        &mut self,
        part: &'static str,
        error: &(dyn std::error::Error + Sync),
        public_message: String,
    ) -> Result<(), CountError> {
        tracing::warn!("{error}; the count waits");
        self.telemetry.set_waiting(part, public_message);
        if self.stop.is_asked() {
            return Err(CountError::GaveUp(error.to_string()));
        }
        let _ = tokio::time::timeout(self.wait, self.stop.asked()).await;
        self.wait = (self.wait * 2).min(MAX);
        Ok(())
    }
}
