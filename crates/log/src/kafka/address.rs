//! `kafka://host:port,host:port/topic`.

use std::fmt;
use std::str::FromStr;

/// The scheme of a Kafka log's address.
pub const SCHEME: &str = "kafka://";

const TOPIC: &str = "votes";
const PORT: u16 = 9092;
const FORM: &str = "expected kafka://host:port[,host:port...][/topic]";

/// Where a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaAddress {
    /// `host:port`, separated by commas.
    pub servers: String,
    pub topic: String,
}

impl FromStr for KafkaAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<KafkaAddress, String> {
        let rest = text.strip_prefix(SCHEME).ok_or(FORM)?;
        let (servers, topic) = match rest.split_once('/') {
            Some((servers, topic)) if !topic.is_empty() => (servers, topic),
            Some((servers, _)) => (servers, TOPIC),
            None => (rest, TOPIC),
        };
        let servers = servers.split(',').map(server).collect::<Result<Vec<_>, _>>()?;
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if topic.len() > 249 || !topic.chars().all(is_fine) || topic == "." || topic == ".." {
            return Err(format!("`{topic}` is not a valid topic name; use up to 249 letters, digits, `.`, `_` or `-`"));
        }
        Ok(KafkaAddress { servers: servers.join(","), topic: topic.to_owned() })
    }
}

fn server(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err(
            "an address must not contain a user or a password; put sasl.username and sasl.password into the file \
                    that --kafka-config names"
                .into(),
        );
    }
    // A bare IPv6 address is rejected below: one of its colons would be taken for the one before a port.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port; {FORM}"))?)
        }
        _ => (text, PORT),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(char::is_whitespace) || (host.contains(':') && !is_bracketed) {
        return Err(format!("`{text}` names no host; {FORM}"));
    }
    Ok(format!("{host}:{port}"))
}

impl fmt::Display for KafkaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.servers, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_brokers_and_optionally_a_topic() {
        let read = |text: &str| text.parse::<KafkaAddress>().map(|address| address.to_string());
        assert_eq!(read("kafka://one:1").as_deref(), Ok("kafka://one:1/votes"));
        assert_eq!(read("kafka://one/").as_deref(), Ok("kafka://one:9092/votes"));
        assert_eq!(read("kafka://one:1,two:2/night.2").as_deref(), Ok("kafka://one:1,two:2/night.2"));
        assert_eq!(read("kafka://[::1]:7,[::2]/x").as_deref(), Ok("kafka://[::1]:7,[::2]:9092/x"));
        for wrong in
            ["", "kafka://", "http://one:1", "kafka://one:x", "kafka://one:70000", "kafka://::1", "kafka://a b:1"]
        {
            assert!(read(wrong).unwrap_err().contains("expected kafka://host:port"), "{wrong}");
        }
        assert!(read("kafka://one:1/a/b").unwrap_err().contains("is not a valid topic name"));
        assert!(read("kafka://me:secret@one:1").unwrap_err().contains("--kafka-config"));
    }
}
