//! librdkafka's settings: the user's, and those that a count rests on; and what it reports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use scrutin_files::FileError;

use super::KafkaAddress;
use crate::{LogError, Result};

/// How long one question to the brokers may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// After so long without an answer, it is asked for which brokers there are now.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// How long reports of the client are waited for, once something has failed.
const REPORTS_WAIT: Duration = Duration::from_millis(20);

/// Settings that exactly-once rests on, or that would go round an option of ours.
const OURS: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "log.queue",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "request.required.acks",
    "retries",
    "transactional.id",
];

/// The user's settings of the client, by librdkafka's names.
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// The file that they are from.
    pub(super) path: PathBuf,
    pub(super) properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// Reads a file of `name=value` lines, as Kafka's own tools and kcat take them.
    pub fn read(path: &Path) -> std::result::Result<KafkaSettings, FileError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
        let mut properties = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let at =
                |what: String| FileError::At { path: path.to_owned(), line: number as u64 + 1, column: None, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| at("expected name=value".into()))?;
            let (name, value) = (name.trim(), value.trim());
            check(name, value).map_err(at)?;
            properties.insert(name.to_owned(), value.to_owned());
        }
        Ok(KafkaSettings { path: path.to_owned(), properties })
    }

    /// Whether the brokers are spoken to without TLS and login.
    pub(super) fn is_plaintext(&self) -> bool {
        self.properties.get("security.protocol").is_none_or(|protocol| protocol.eq_ignore_ascii_case("plaintext"))
    }

    /// A client that asks, and reads nothing.
    pub(super) fn client(&self, address: &KafkaAddress) -> Result<BaseConsumer<Context>> {
        let mut config = self.consumer(address, &[]);
        // The end of the log is the end of what was written: what a transaction still holds back is behind too.
        config.set("isolation.level", "read_uncommitted");
        config.create_with_context(Context::default()).map_err(|error| unusable(address, &error))
    }

    /// A client that asks, and takes for the end what can be read now.
    pub(super) fn committed_client(&self, address: &KafkaAddress) -> Result<BaseConsumer<Context>> {
        let config = self.consumer(address, &[]);
        config.create_with_context(Context::default()).map_err(|error| unusable(address, &error))
    }

    /// `defaults` hold where the user has set nothing.
    pub fn consumer(&self, address: &KafkaAddress, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.base(address, defaults);
        config
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true");
        config
    }

    pub(super) fn producer(&self, address: &KafkaAddress, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.base(address, defaults);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A vote waits for the brokers as long as it takes: given up, it could not be told from one that arrived.
            .set("message.timeout.ms", "0");
        config
    }

    pub(super) fn base(&self, address: &KafkaAddress, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &address.servers)
            .set("client.id", "scrutin")
            .set("allow.auto.create.topics", "false")
            // Brokers that were away are tried again soon, so that a count is late by no more.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Nor does one that has gone quiet hold everything up for the default of a minute.
            .set("socket.timeout.ms", "10000")
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in defaults.iter().copied().chain(own) {
            config.set(name, value);
        }
        config
    }
}

fn check(name: &str, value: &str) -> std::result::Result<(), String> {
    if OURS.contains(&name) {
        return Err(format!("`{name}` is set by the program, and what it promises rests on it; leave it out"));
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, what, ..)) => {
            Err(format!("`{name}`: {what}{}", advice(name, value, cfg!(feature = "tls"))))
        }
        Err(error) => Err(format!("`{name}`: {error}")),
    }
}

/// What to do about a setting that is not taken.
fn advice(name: &str, value: &str, has_tls: bool) -> &'static str {
    let needs_tls =
        name.starts_with("ssl.") || value.to_ascii_lowercase().contains("ssl") || value.starts_with("SCRAM");
    match needs_tls && !has_tls {
        true => "; this program was built without TLS and SCRAM: build it with --features tls",
        false => "; the names are librdkafka's",
    }
}

/// What a client has last reported to be wrong.
#[derive(Default)]
pub(super) struct Context {
    problem: Mutex<Option<String>>,
}

impl Context {
    /// Told once: what was wrong before says nothing of what is wrong now.
    fn take_problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
        // That all are away is known by then; why one is, was said before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_short(reason));
        }
    }
}

impl ConsumerContext for Context {}

/// What is wrong is told by the program in its own words; librdkafka's are for who looks for more.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
            tracing::debug!("librdkafka {facility}: {message}");
        }
        _ => tracing::info!("librdkafka {facility}: {message}"),
    }
}

/// A reason without the name of the thread that gives it, and without how often it was given.
pub(super) fn in_short(reason: &str) -> String {
    let reason = reason.split_once("]: ").map_or(reason, |(_, reason)| reason);
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    reason.trim().to_owned()
}

/// Takes what a client that only asks has to report, lest it pile up.
pub(super) fn take_reports(client: &BaseConsumer<Context>) {
    while client.poll(Duration::ZERO).is_some() {}
}

/// Asks the brokers about a topic. The client goes on asking the broker that it knows, be it a leader or the controller,
/// however long that one is gone: without an answer it is made to look again at who is there, and to ask once more.
pub(super) fn ask<T, E>(
    client: &BaseConsumer<Context>,
    topic: &str,
    question: impl Fn(Duration) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    question(FIRST_PATIENCE).or_else(|error| match client.fetch_metadata(Some(topic), PATIENCE) {
        Ok(_) => question(PATIENCE),
        Err(_) => Err(error),
    })
}

/// A question that was not answered.
pub(super) fn failed(address: &KafkaAddress, client: &BaseConsumer<Context>, error: &KafkaError) -> LogError {
    // The reason comes a little later than the failure.
    while client.poll(REPORTS_WAIT).is_some() {}
    let why = match code_of(error) {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            return unusable(address, error);
        }
        // A broker that has just come back may not know yet of a topic that was there. Where it is gone for good, the
        // readers hear of it, later.
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => "the brokers know of no such topic now".into(),
        Some(RDKafkaErrorCode::OperationTimedOut) | None => format!("nothing came within {} s", PATIENCE.as_secs()),
        Some(code) => in_words(code),
    };
    // The client forgets the topic while no broker answers: why none does is what there is to know.
    LogError::Away { log: address.to_string(), why: client.context().take_problem().unwrap_or(why) }
}

/// The code of an error, those of administration too.
fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    }
}

/// A request of administration that was not done.
pub(super) fn undone(address: &KafkaAddress, error: &KafkaError) -> LogError {
    match code_of(error) {
        Some(
            code @ (RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown),
        ) => LogError::Away { log: address.to_string(), why: in_words(code) },
        _ => unusable(address, error),
    }
}

/// What a code means, without its name.
pub(super) fn in_words(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let words = text.split_once('(').and_then(|(_, words)| words.strip_suffix(')'));
    words.unwrap_or(&text).to_owned()
}

pub(super) fn gone(address: &KafkaAddress) -> LogError {
    LogError::Unusable(format!(
        "there is no topic `{}` at {}; `scrutin setup` makes it",
        address.topic, address.servers
    ))
}

pub(super) fn unusable(address: &KafkaAddress, error: &KafkaError) -> LogError {
    let why = code_of(error).map_or_else(|| error.to_string(), in_words);
    LogError::Unusable(format!("the log at {address} cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_tls_is_said_by_a_build_without() {
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "ca.pem"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
        ] {
            assert!(advice(name, value, false).contains("--features tls"), "{name}={value}");
            assert!(!advice(name, value, true).contains("--features tls"), "{name}={value}");
        }
        assert!(!advice("linger.ms", "soon", false).contains("--features tls"));
    }
}
