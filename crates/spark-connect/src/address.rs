//! Addresses of the form `sc://host:port/;token=…;use_ssl=true`, which all Spark Connect clients accept.
//!
//! Source: "Connecting to Spark Connect using Clients", in the documentation of Spark Connect's client.

use std::fmt;
use std::str::FromStr;

/// The prefix of a Spark address.
pub const SCHEME: &str = "sc://";

const PORT: u16 = 15_002;
const FORM: &str = "expected sc://host:port, optionally followed by /;token=…;use_ssl=true";

/// The address of a Spark Connect server, and how to authenticate.
#[derive(Clone, PartialEq, Eq)]
pub struct SparkAddress {
    /// IPv6 addresses are in brackets.
    pub host: String,
    pub port: u16,
    /// Sent with every call.
    pub token: Option<String>,
    pub use_ssl: bool,
    /// The name that the server files sessions under; it is not verified.
    pub user_id: Option<String>,
}

impl SparkAddress {
    /// Sets the token, unless the address already has one.
    ///
    /// # Errors
    ///
    /// If the token is invalid or would be sent over a network in the clear.
    pub fn with_token(mut self, token: Option<String>) -> Result<SparkAddress, String> {
        self.token = self.token.or(token);
        self.checked()
    }

    fn checked(self) -> Result<SparkAddress, String> {
        let Some(token) = &self.token else { return Ok(self) };
        let is_visible = |c: char| c.is_ascii_graphic();
        if token.is_empty() || !token.chars().all(is_visible) {
            return Err("a token must be printable ASCII without spaces".into());
        }
        if !self.use_ssl && !["localhost", "127.0.0.1", "[::1]"].contains(&self.host.as_str()) {
            return Err(format!("the token would be sent to {} in the clear; add ;use_ssl=true", self.host));
        }
        Ok(self)
    }
}

impl FromStr for SparkAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<SparkAddress, String> {
        let rest = text.strip_prefix(SCHEME).ok_or(FORM)?;
        let (server, options) = rest.split_once('/').unwrap_or((rest, ""));
        // An IPv6 address without brackets is refused: its last group would be taken for a port.
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("`{port}` is not a port; {FORM}"))?)
            }
            _ => (server, PORT),
        };
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_strange = |c: char| c.is_whitespace() || c.is_control() || "@?#;".contains(c);
        if host.is_empty() || host.contains(is_strange) || (host.contains(':') && !is_bracketed) {
            return Err(format!("`{server}` names no host; {FORM}"));
        }
        let mut address = SparkAddress { host: host.to_owned(), port, token: None, use_ssl: false, user_id: None };
        for option in options.split(';').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or(FORM)?;
            let value = decoded(value).ok_or_else(|| format!("the value of `{name}` is not valid percent-encoding"))?;
            match name {
                "token" => address.token = Some(value),
                "user_id" => address.user_id = Some(value),
                "use_ssl" => match value.to_ascii_lowercase().as_str() {
                    "true" => address.use_ssl = true,
                    "false" => address.use_ssl = false,
                    _ => return Err(format!("use_ssl must be true or false, not `{value}`")),
                },
                _ => return Err(format!("unsupported option `{name}`; supported are token, use_ssl and user_id")),
            }
        }
        address.checked()
    }
}

/// Decodes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for SparkAddress {
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for SparkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_with_and_without_options() {
        let read = |text: &str| text.parse::<SparkAddress>();
        let plain = read("sc://one").unwrap();
        assert_eq!((plain.to_string().as_str(), plain.token, plain.use_ssl), ("sc://one:15002", None, false));
        assert_eq!(read("sc://[::1]:7/").unwrap().to_string(), "sc://[::1]:7");
        let full = read("sc://one:1/;use_ssl=TRUE;token=a%2Bb;user_id=me").unwrap();
        assert_eq!((full.token.as_deref(), full.use_ssl, full.user_id.as_deref()), (Some("a+b"), true, Some("me")));
        for wrong in ["", "sc://", "http://one:1", "sc://one:x", "sc://::1", "sc://a b", "sc://me@one", "sc://one/x"] {
            assert!(read(wrong).unwrap_err().contains("expected sc://host:port"), "{wrong}");
        }
        assert!(read("sc://one/;use_ssl=yes").unwrap_err().contains("true or false"));
        assert!(read("sc://one/;use_tls=true").unwrap_err().contains("unsupported option"));
        assert!(read("sc://one/;user_id=%2").unwrap_err().contains("percent-encoding"));
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear_and_not_shown() {
        let read = |text: &str| text.parse::<SparkAddress>();
        assert!(read("sc://one/;token=secret").unwrap_err().contains("use_ssl=true"));
        assert!(read("sc://one/;use_ssl=true;token=se%20cret").unwrap_err().contains("without spaces"));
        let near = read("sc://127.0.0.1/;token=secret").unwrap();
        assert_eq!(format!("{near} {near:?}"), "sc://127.0.0.1:15002 sc://127.0.0.1:15002");
        let given = |text: &str| read(text).unwrap().with_token(Some("given".into()));
        assert_eq!(given("sc://localhost").unwrap().token.as_deref(), Some("given"));
        assert_eq!(given("sc://localhost/;token=own").unwrap().token.as_deref(), Some("own"));
        assert!(given("sc://one").unwrap_err().contains("in the clear"));
    }
}
