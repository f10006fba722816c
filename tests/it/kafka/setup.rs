//! The topic that `setup` creates, and the topics it refuses.

use super::{Stage, Topic};
use crate::broker::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn setup_makes_a_topic_that_keeps_every_vote() {
    let stage = Stage::new().await;
    let out = stage.place.ok("setup --partitions 3");
    assert!(out.starts_with(&format!("log         {}, 3 partitions\n", stage.topic.address())), "{out}");
    let settings = stage.topic.settings().await;
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
        ("unclean.leader.election.enable", "false"),
        ("min.insync.replicas", "1"),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    assert_eq!(stage.topic.copies().len(), 3);

    assert_eq!(stage.place.ok("setup --partitions 3"), out, "the topic is unchanged");
    assert_eq!(stage.place.ok("setup"), out, "no number of partitions was given");
    let refused = stage.place.fails("setup --partitions 5", 4);
    assert!(refused.contains("has 3 partitions, not 5; the number cannot change once the log exists"), "{refused}");
    assert_eq!(stage.topic.copies().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_have_as_many_copies_as_asked_for() {
    let broker = Broker::start(3);
    let stage = Stage::on(&broker).await;
    stage.place.ok("setup");
    assert_eq!(stage.topic.copies(), [3; 4]);
    assert_eq!(stage.topic.settings().await["min.insync.replicas"], "2", "one broker may be down");

    let at = |name: &str| Topic::on(broker.address(), name);
    let two = at("two-copies");
    let log = two.address();
    for (options, words) in [
        (
            "--replication 2 --min-insync 3",
            "3 in-sync copies are more than the 2 copies of each partition; lower --min-insync",
        ),
        ("--replication 4", "3 brokers cannot hold 4 copies; lower --replication"),
    ] {
        let refused = stage.place.fails(&format!("setup --no-election --log {log} {options}"), 4);
        assert!(refused.contains(words), "{refused}");
    }
    stage.place.ok(&format!("setup --no-election --log {log} --partitions 1 --replication 2 --min-insync 2"));
    assert_eq!((two.copies(), two.settings().await["min.insync.replicas"].as_str()), (vec![2], "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_lose_votes_is_refused() {
    let stage = Stage::new().await;
    let good = [("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")];
    for (name, value, words) in [
        (
            "cleanup.policy",
            "compact",
            "cleanup.policy is compact, but must be delete: compaction would keep the last vote of each voter and drop \
             the first;",
        ),
        ("cleanup.policy", "compact,delete", "cleanup.policy is compact,delete, but must be delete: "),
        ("retention.ms", "86400000", "retention.ms is 86400000, but must be -1: votes would be deleted by age;"),
        ("retention.bytes", "1000000", "retention.bytes is 1000000, but must be -1: votes would be deleted by size;"),
        (
            "message.timestamp.type",
            "CreateTime",
            "message.timestamp.type is CreateTime, but must be LogAppendTime: votes would carry the senders' clocks;",
        ),
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable is true, but must be false: "),
    ] {
        let topic = Topic::on(&format!("kafka://{}", stage.topic.servers), &Broker::shared().topic());
        let settings = good.into_iter().filter(|(set, _)| *set != name).chain([(name, value)]);
        topic.make(1, &settings.collect::<Vec<_>>()).await;
        let refused = stage.place.fails(&format!("setup --log {}", topic.address()), 4);
        let begin = format!("scrutin: the topic `{}` at {} cannot hold votes: ", topic.name, topic.servers);
        assert!(refused.starts_with(&begin) && refused.contains(words), "{refused}");
        assert!(refused.ends_with("; change it with kafka-configs.sh, or name another topic\n"), "{refused}");
    }

    // Every command that uses the topic reports all its problems at once.
    stage.topic.make(1, &[("cleanup.policy", "compact")]).await;
    for line in ["setup", "simulate", "count --drain", "audit", "status"] {
        let refused = stage.place.fails(line, 4);
        for name in ["cleanup.policy is compact", "retention.ms is 604800000", "message.timestamp.type is CreateTime"] {
            assert!(refused.contains(name), "{line}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suitable_topic_made_by_hand_is_accepted() {
    let stage = Stage::new().await;
    stage.topic.make(2, &[("retention.ms", "-1"), ("message.timestamp.type", "LogAppendTime")]).await;
    assert!(stage.place.ok("setup --voters 1000").contains(", 2 partitions"));
    // Nobody has voted yet, so no voter's partition changes.
    stage.topic.raise_partitions(6).await;
    assert!(stage.place.ok("setup --voters 1000").contains(", 6 partitions"));
    stage.place.ok("simulate");
    stage.place.ok("count --drain");
    stage.place.ok("audit --truth scrutin-data/truth.json");
}
