//! `kafka://host:port,host:port/topic`.

use std::fmt;
use std::str::FromStr;

/// What an address of a Kafka log begins with.
pub const SCHEME: &str = "kafka://";

const TOPIC: &str = "votes";
const PORT: u16 = 9092;
const FORM: &str = "expected kafka://host:port, more brokers behind commas, and maybe /topic behind them";

/// Where a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaAddress {
    /// `host:port`, with commas between.
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
            return Err(format!("`{topic}` cannot be a topic: up to 249 letters, digits, `.`, `_` and `-` can"));
        }
        Ok(KafkaAddress { servers: servers.join(","), topic: topic.to_owned() })
    }
}

fn server(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("a user or a password does not belong in it; put sasl.username and sasl.password into the file \
                    that --kafka-config names"
            .into());
    }
    // The colons of a bare IPv6 address would be taken for one before a port.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is no port; {FORM}"))?)
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
    fn an_address_names_brokers_and_maybe_a_topic() {
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
        assert!(read("kafka://one:1/a/b").unwrap_err().contains("cannot be a topic"));
        assert!(read("kafka://me:secret@one:1").unwrap_err().contains("--kafka-config"));
    }
}
