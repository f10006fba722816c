//! A response body whose ETag and gzip form are computed once.
//!
//! ETags are strong: each identifies the bytes sent, so the plain and the gzip form have one each, and a request with
//! either is answered 304. Compression cannot leak secrets here, since no response contains any. Brotli would need
//! another library.

use std::io::Write;

use axum::body::Body as Sent;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

/// Shorter bodies are not compressed: they fit into a packet or two anyway.
const GZIP_BYTES_MIN: usize = 1024;

/// Longer bodies are compressed on a blocking thread, to not hold up other tasks.
const GZIP_AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// A body that may be sent many times; all sends share its bytes.
pub struct Body {
    bytes: Bytes,
    kind: &'static str,
    /// Hash of the bytes, in hexadecimal.
    hash: String,
    gzip: OnceCell<Bytes>,
    effort: Compression,
    disposition: Option<HeaderValue>,
}

/// A text and the memory permits it holds while anyone uses it.
struct Held {
    text: String,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Body {
    /// A body compiled into the program; `kind` is its media type.
    pub fn fixed(text: &'static str, kind: &'static str) -> Body {
        Body::of(Bytes::from_static(text.as_bytes()), kind, Compression::best())
    }

    /// A body that holds `room` until its last sender is done.
    pub fn held(text: String, kind: &'static str, room: OwnedSemaphorePermit) -> Body {
        Body::of(Bytes::from_owner(Held { text, _room: room }), kind, Compression::fast())
    }

    fn of(bytes: Bytes, kind: &'static str, effort: Compression) -> Body {
        let mut hash = blake3::hash(&bytes).to_hex().to_string();
        hash.truncate(32);
        Body { bytes, kind, hash, gzip: OnceCell::new(), effort, disposition: None }
    }

    /// Makes browsers save the body under this name, of ASCII letters, digits, dots, dashes and underscores.
    pub fn named(mut self, file: &str) -> Body {
        self.disposition = HeaderValue::from_str(&format!("attachment; filename=\"{file}\"")).ok();
        self
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The response to a request with these headers: the body in an accepted form, or 304 if the client has it.
    pub async fn answer(&self, asked: &HeaderMap, caching: &'static str) -> Response {
        let has_gzip = self.len() >= GZIP_BYTES_MIN;
        let wants_gzip = has_gzip && accepts_gzip(asked);
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        if has_gzip {
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if self.is_known(asked) {
            headers.insert(header::ETAG, self.tag(wants_gzip));
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let gzip = if wants_gzip { self.gzip().await } else { None };
        headers.insert(header::ETAG, self.tag(gzip.is_some()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(disposition) = &self.disposition {
            headers.insert(header::CONTENT_DISPOSITION, disposition.clone());
        }
        let bytes = match gzip {
            Some(gzip) => {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip
            }
            None => self.bytes.clone(),
        };
        (headers, Sent::from(bytes)).into_response()
    }

    fn tag(&self, is_gzip: bool) -> HeaderValue {
        let tag = format!("\"{}{}\"", self.hash, if is_gzip { "-gzip" } else { "" });
        HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes make a header")
    }

    /// Whether If-None-Match names either form (RFC 9110, section 13.1.2).
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let tags = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            let hash = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            tag == "*" || hash.is_some_and(|hash| hash.strip_suffix("-gzip").unwrap_or(hash) == self.hash)
        })
    }

    /// None only while the program is shutting down.
    async fn gzip(&self) -> Option<Bytes> {
        let (bytes, effort) = (self.bytes.clone(), self.effort);
        let zipped = self.gzip.get_or_try_init(async || {
            if bytes.len() <= GZIP_AT_ONCE_BYTES_MAX {
                return Ok(compressed(&bytes, effort));
            }
            tokio::task::spawn_blocking(move || compressed(&bytes, effort)).await
        });
        zipped.await.ok().cloned()
    }
}

fn compressed(bytes: &[u8], effort: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), effort);
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("writing to memory cannot fail").into()
}

/// Whether `Accept-Encoding` accepts gzip or `*` with a weight above 0.
fn accepts_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_wanted = weight
            .trim()
            .strip_prefix("q=")
            .and_then(|weight| weight.trim().parse::<f32>().ok())
            .is_none_or(|weight| weight > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return is_wanted,
            "*" => any = is_wanted,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for (value, accepted) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip; q=1", true),
            ("*", true),
            ("br, *;q=0.1", true),
            ("", false),
            ("br, deflate", false),
            ("gzip;q=0", false),
            ("gzip;q=0.0, *", false),
            ("*;q=0", false),
            ("gzipped", false),
        ] {
            assert_eq!(accepts_gzip(&asked(header::ACCEPT_ENCODING, value)), accepted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn either_etag_of_a_body_is_recognised() {
        let body = Body::fixed("votes", "text/plain");
        let hash = &blake3::hash(b"votes").to_hex()[..32];
        for (value, known) in [
            (format!("\"{hash}\""), true),
            (format!("\"{hash}-gzip\""), true),
            (format!("W/\"{hash}\""), true),
            (format!("\"other\" , \"{hash}\""), true),
            ("*".to_owned(), true),
            (hash.to_owned(), false),
            (format!("\"{hash}-br\""), false),
            (format!("\"{}\"", &hash[1..]), false),
            (String::new(), false),
        ] {
            assert_eq!(body.is_known(&asked(header::IF_NONE_MATCH, &value)), known, "{value}");
        }
    }
}
