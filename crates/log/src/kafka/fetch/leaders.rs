//! Finds the brokers that lead a topic's partitions.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::connection::{Connection, ConnectionError, Result, Server};

/// The servers to ask; the one that answered last comes first.
pub(super) struct Servers(VecDeque<Server>);

/// A partition's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub broker: i32,
    pub server: Server,
    /// Each new leader of a partition has a higher one.
    pub epoch: i32,
}

pub(super) struct Leaders {
    pub topic_id: Uuid,
    /// By partition.
    found: BTreeMap<u32, std::result::Result<Leader, ResponseError>>,
}

impl Leaders {
    pub fn of(&mut self, partition: u32) -> std::result::Result<Leader, ResponseError> {
        self.found.remove(&partition).unwrap_or(Err(ResponseError::UnknownTopicOrPartition))
    }
}

impl Servers {
    /// `servers` as in an address: `host:port`, separated by commas.
    pub fn new(servers: &str) -> Servers {
        let server = |text: &str| {
            let (host, port) = text.rsplit_once(':')?;
            // Brackets set an IPv6 address apart from the port.
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        };
        Servers(servers.split(',').filter_map(server).collect())
    }

    /// Asks one server after the other for the topic's leaders. The inner error is about the topic.
    ///
    /// # Errors
    ///
    /// If no server answers, or one is too old.
    pub fn find(&mut self, topic: &str) -> Result<std::result::Result<Leaders, ResponseError>> {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
            .with_allow_auto_topic_creation(false);
        let mut failed = None;
        for _ in 0..self.0.len() {
            let answer = Connection::open(&self.0[0]).and_then(|mut connection| connection.ask(&request));
            match answer {
                Ok(answer) => return Ok(self.take(answer)),
                Err(error @ ConnectionError::TooOld { .. }) => return Err(error),
                Err(error) => failed = Some(error),
            }
            self.0.rotate_left(1);
        }
        Err(failed.expect("an address names a server"))
    }

    /// Asks this server last from now on.
    pub fn distrust(&mut self, server: &Server) {
        if let Some(place) = self.0.iter().position(|known| known == server)
            && let Some(server) = self.0.remove(place)
        {
            self.0.push_back(server);
        }
    }

    fn take(&mut self, answer: MetadataResponse) -> std::result::Result<Leaders, ResponseError> {
        let server = |host: &str, port: i32| Some((host.to_owned(), u16::try_from(port).ok()?));
        let brokers: BTreeMap<i32, Server> = answer
            .brokers
            .into_iter()
            .filter_map(|broker| Some((broker.node_id.0, server(&broker.host, broker.port)?)))
            .collect();
        let news = brokers.values().filter(|server| !self.0.contains(server)).cloned().collect::<Vec<_>>();
        self.0.extend(news);

        let topic = answer.topics.into_iter().next().ok_or(ResponseError::UnknownTopicOrPartition)?;
        check(topic.error_code)?;
        let leader = |broker: i32, epoch| {
            let server = brokers.get(&broker).cloned().ok_or(ResponseError::LeaderNotAvailable)?;
            Ok(Leader { broker, server, epoch })
        };
        let partitions = topic.partitions.into_iter().map(|it| {
            let found = check(it.error_code).and_then(|()| leader(it.leader_id.0, it.leader_epoch));
            (it.partition_index as u32, found)
        });
        Ok(Leaders { topic_id: topic.topic_id, found: partitions.collect() })
    }
}

/// The error that a code stands for.
pub(super) fn check(code: i16) -> std::result::Result<(), ResponseError> {
    ResponseError::try_from_code(code).map_or(Ok(()), Err)
}
