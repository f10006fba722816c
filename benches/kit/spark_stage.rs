//! A stage whose log is a topic that Spark counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use scrutin_contract::election::Election;
use scrutin_contract::truth::Truth;
use scrutin_log::{KafkaLog, VoteLog};
use scrutin_pipeline::{CountProgress, Stop};
use scrutin_producer::simulate::{FaultRates, Plan, Speed};
use scrutin_spark::count::{self as spark, SparkCountOptions};
use scrutin_telemetry::Telemetry;

use super::broker::Broker;
use super::spark_server::SparkServer;
use super::{Stage, check, one, send};

pub const BATCH_VOTES: u64 = 1_000_000;

const AGREE: &str = "SELECT count(*) = 1 AND bool_and(comparable)
        AND sum(partitions_apart + votes_apart + timeline_apart + rejections_apart) = 0 FROM agreement";

/// A stage, and its log as the type that Spark's driver takes.
pub struct SparkStage {
    pub stage: Stage,
    pub log: KafkaLog,
    pub truth: Option<Truth>,
}

impl SparkStage {
    /// A stage with all votes of the plan in its log.
    pub async fn up(broker: &Broker, plan: &Plan) -> SparkStage {
        let mut set = SparkStage::empty(broker, plan.election()).await;
        let (log, plan) = (set.log.clone(), plan.clone());
        let send = move || send(&plan, &FaultRates::demo(), &log, Speed::Max);
        set.truth = Some(tokio::task::spawn_blocking(send).await.expect("the generator does not panic"));
        set
    }

    pub async fn empty(broker: &Broker, election: &Election) -> SparkStage {
        let mut log = None;
        let stage = Stage::set(election, async |folder| {
            Arc::new(log.insert(broker.log(folder, "lz4").await).clone()) as Arc<dyn VoteLog>
        })
        .await;
        SparkStage { stage, log: log.expect("the stage makes the log"), truth: None }
    }

    pub fn topic(&self) -> &str {
        &self.log.address().topic
    }

    /// Counts all that is in the log.
    pub async fn drain_on_spark(&self, server: &SparkServer) {
        self.count_on_spark(server, true, Arc::default(), Arc::default()).await;
    }

    pub async fn count_on_spark(
        &self,
        server: &SparkServer,
        drain: bool,
        stop: Arc<Stop>,
        progress: Arc<CountProgress>,
    ) {
        let options = SparkCountOptions {
            counter: "spark".into(),
            address: server.address(),
            checkpoint: server.checkpoint(self.topic()).display().to_string(),
            tallies: format!("{}-tallies", self.topic()),
            batch_votes: BATCH_VOTES,
            kafka: BTreeMap::new(),
            settings: Vec::new(),
            drain,
        };
        let progress = (progress, Arc::default());
        let database = self.stage.database();
        spark::count(self.log.clone(), database, options, Telemetry::new(), progress, stop).await.expect("count");
    }

    /// Counts the whole log on Spark, tears the stage down, and returns the votes per second.
    pub async fn whole_on_spark(self, server: &SparkServer) -> f64 {
        let start = Instant::now();
        self.drain_on_spark(server).await;
        let took = start.elapsed();
        let truth = self.truth.as_ref().expect("the votes are in the log");
        check(&self.stage.database(), "spark", truth).await;
        let rate = truth.records as f64 / took.as_secs_f64();
        self.stage.strike().await;
        rate
    }

    /// Checks that both counters match the truth, and each other in every row.
    pub async fn check_both(&self, truth: &Truth) {
        let database = self.stage.database();
        check(&database, "native", truth).await;
        check(&database, "spark", truth).await;
        let agree: bool = one(&database, AGREE).await;
        assert!(agree, "both counters have the same rows");
    }
}
