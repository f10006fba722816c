//! librdkafka's settings, both the user's and those that a count depends on, and the errors that it reports.

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

/// Timeout of one request to the brokers.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// After this time without an answer, the client refreshes its list of brokers.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait for the client's error reports after a failure.
const REPORTS_WAIT: Duration = Duration::from_millis(20);

/// Settings that exactly-once counting depends on, or that would bypass one of our own options.
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

/// The user's client settings, by librdkafka's names.
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// The file that they were read from.
    pub(super) path: PathBuf,
    pub(super) properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// Reads a file of `name=value` lines, in the format of Kafka's own tools and kcat.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if a line is not a setting that the user may set.
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

    /// Whether connections use neither TLS nor a login.
    pub(super) fn is_plaintext(&self) -> bool {
        self.properties.get("security.protocol").is_none_or(|protocol| protocol.eq_ignore_ascii_case("plaintext"))
    }

    /// A client for queries; it reads no records.
    pub(super) fn client(&self, address: &KafkaAddress) -> Result<BaseConsumer<Context>> {
        let mut config = self.consumer(address, &[]);
        // The log ends where the last written record ends: records that a transaction holds back count as lag, too.
        config.set("isolation.level", "read_uncommitted");
        config.create_with_context(Context::default()).map_err(|error| unusable(address, &error))
    }

    /// A client for queries, whose end of a partition is the end of what can be read now.
    pub(super) fn committed_client(&self, address: &KafkaAddress) -> Result<BaseConsumer<Context>> {
        let config = self.consumer(address, &[]);
        config.create_with_context(Context::default()).map_err(|error| unusable(address, &error))
    }

    /// The configuration of a consumer. `defaults` apply where the user has set nothing.
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
            // A vote waits for the brokers without limit: one that timed out could not be told from one that arrived.
            .set("message.timeout.ms", "0");
        config
    }

    pub(super) fn base(&self, address: &KafkaAddress, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &address.servers)
            .set("client.id", "scrutin")
            .set("allow.auto.create.topics", "false")
            // Reconnect soon to brokers that were away, so that the count is not delayed longer than necessary.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A broker that goes silent must not block everything for the default of a minute.
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
        return Err(format!("`{name}` is set by the program, whose guarantees depend on it; leave it out"));
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

/// Advice on a setting that librdkafka refuses.
fn advice(name: &str, value: &str, has_tls: bool) -> &'static str {
    let needs_tls =
        name.starts_with("ssl.") || value.to_ascii_lowercase().contains("ssl") || value.starts_with("SCRAM");
    match needs_tls && !has_tls {
        true => "; this program was built without TLS and SCRAM: build it with --features tls",
        false => "; use librdkafka's names for settings",
    }
}

/// The last problem that a client has reported.
#[derive(Default)]
pub(super) struct Context {
    problem: Mutex<Option<String>>,
}

impl Context {
    /// Clears the problem too: an earlier one says nothing about what is wrong now.
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
        // At this point it is known that all brokers are down; the reason was reported before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(in_short(reason));
        }
    }
}

impl ConsumerContext for Context {}

/// The program reports problems in its own words; librdkafka's own log lines are for debugging.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
            tracing::debug!("librdkafka {facility}: {message}");
        }
        _ => tracing::info!("librdkafka {facility}: {message}"),
    }
}

/// Strips a reason of the reporting thread's name and of the repeat count.
pub(super) fn in_short(reason: &str) -> String {
    let reason = reason.split_once("]: ").map_or(reason, |(_, reason)| reason);
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    reason.trim().to_owned()
}

/// Drains the reports of a client that is used for queries only, so that they do not pile up.
pub(super) fn take_reports(client: &BaseConsumer<Context>) {
    while client.poll(Duration::ZERO).is_some() {}
}

/// Queries the brokers about a topic. The client keeps asking the broker it knows (the leader or the controller),
/// however long that one has been gone. So after a timeout, this makes it refresh its list of brokers and asks once
/// more.
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

/// The error for a query that was not answered.
pub(super) fn failed(address: &KafkaAddress, client: &BaseConsumer<Context>, error: &KafkaError) -> LogError {
    // The client reports the reason a little after the failure.
    while client.poll(REPORTS_WAIT).is_some() {}
    let why = match code_of(error) {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            return unusable(address, error);
        }
        // A broker that has just come back may not know of an existing topic yet. If the topic is gone for good, the
        // readers will notice later.
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => "the brokers do not know the topic at the moment".into(),
        Some(RDKafkaErrorCode::OperationTimedOut) | None => format!("no answer within {} s", PATIENCE.as_secs()),
        Some(code) => in_words(code),
    };
    // While no broker answers, the client forgets the topic; the useful message is why none answers.
    LogError::Away { log: address.to_string(), why: client.context().take_problem().unwrap_or(why) }
}

/// The code of an error, including errors of admin requests.
fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    }
}

/// The error for an admin request that failed.
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

/// The description of a code, without its name.
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
    fn a_build_without_tls_says_which_settings_need_it() {
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
