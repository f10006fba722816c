//! A connection to one broker, without TLS or login.
//!
//! Messages: <https://kafka.apache.org/protocol>.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, MetadataRequest, MetadataResponse,
    RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// How long a broker may take to accept a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long a broker may take to answer, beside the time that a request lets it wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Limit on the size of an answer, in bytes.
const ANSWER_MAX: usize = 512 << 20;

/// Host and port.
pub(super) type Server = (String, u16);

/// A request, the version of it that is used, and its answer.
pub(super) trait Request: Encodable + HeaderVersion {
    const KEY: ApiKey;
    const VERSION: i16;
    type Answer: Decodable + HeaderVersion;
}

impl Request for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSION: i16 = 0;
    type Answer = ApiVersionsResponse;
}

/// Version 12 names topics by id.
impl Request for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSION: i16 = 12;
    type Answer = MetadataResponse;
}

/// Version 13 names topics by id. Kafka 3.1 and newer have it.
impl Request for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSION: i16 = 13;
    type Answer = FetchResponse;
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("{broker}: {source}")]
    Io { broker: String, source: io::Error },
    #[error("{broker} sent an answer that cannot be read: {what}")]
    Nonsense { broker: String, what: String },
    /// The broker has no version of a request that is needed.
    #[error("{broker} is older than Kafka 3.1")]
    TooOld { broker: String },
}

impl ConnectionError {
    /// A broker that has not answered in time.
    pub fn silent((host, port): &Server) -> ConnectionError {
        ConnectionError::Io { broker: format!("{host}:{port}"), source: io::ErrorKind::TimedOut.into() }
    }
}

pub(super) type Result<T> = std::result::Result<T, ConnectionError>;

pub(super) struct Connection {
    broker: String,
    stream: TcpStream,
    /// The number of the last request.
    correlation_id: i32,
}

impl Connection {
    /// Connects to a broker and checks its versions.
    pub fn open((host, port): &Server) -> Result<Connection> {
        let broker = format!("{host}:{port}");
        let stream = connect((host, *port)).map_err(|source| ConnectionError::Io { broker: broker.clone(), source })?;
        let mut connection = Connection { broker, stream, correlation_id: 0 };
        let found = connection.ask(&ApiVersionsRequest::default())?;
        let has = |key: ApiKey, version: i16| {
            found
                .api_keys
                .iter()
                .any(|api| api.api_key == key as i16 && (api.min_version..=api.max_version).contains(&version))
        };
        if !has(FetchRequest::KEY, FetchRequest::VERSION) || !has(MetadataRequest::KEY, MetadataRequest::VERSION) {
            return Err(ConnectionError::TooOld { broker: connection.broker });
        }
        Ok(connection)
    }

    pub fn ask<R: Request>(&mut self, request: &R) -> Result<R::Answer> {
        self.send(request)?;
        self.receive::<R>()
    }

    pub fn send<R: Request>(&mut self, request: &R) -> Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(R::VERSION)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("scrutin")));
        let mut message = BytesMut::new();
        message.put_u32(0);
        header
            .encode(&mut message, R::header_version(R::VERSION))
            .and_then(|()| request.encode(&mut message, R::VERSION))
            .expect("the versions have all the fields that are set");
        let size = message.len() as u32 - 4;
        message[..4].copy_from_slice(&size.to_be_bytes());
        self.stream.write_all(&message).map_err(|source| self.io(source))
    }

    /// The answer to the last request. Blocks until it has arrived.
    pub fn receive<R: Request>(&mut self) -> Result<R::Answer> {
        let mut answer = self.read().map_err(|source| self.io(source))?;
        let header = ResponseHeader::decode(&mut answer, R::Answer::header_version(R::VERSION));
        let header = header.map_err(|error| self.nonsense(error.to_string()))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.nonsense("it answers another request".into()));
        }
        R::Answer::decode(&mut answer, R::VERSION).map_err(|error| self.nonsense(error.to_string()))
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let deadline = Instant::now() + PATIENCE;
        let mut size = [0; 4];
        self.read_into(&mut size, deadline)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {size} bytes")));
        }
        let mut answer = vec![0; size];
        self.read_into(&mut answer, deadline)?;
        Ok(answer.into())
    }

    fn read_into(&mut self, mut rest: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no complete answer"));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => rest = &mut rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> ConnectionError {
        ConnectionError::Io { broker: self.broker.clone(), source }
    }

    fn nonsense(&self, what: String) -> ConnectionError {
        ConnectionError::Nonsense { broker: self.broker.clone(), what }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn connect(address: (&str, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host name has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, CONNECT_WAIT) {
            Err(error) => last = error,
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
        }
    }
    Err(last)
}
