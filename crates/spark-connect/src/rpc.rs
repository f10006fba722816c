//! The gRPC channel to a server, and the calls over it.

use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::proto::{ExecutePlanResponse, Streamed, Unary};
use super::{Result, SparkAddress, SparkError, SparkSettings};

const CONNECT_SECONDS: u64 = 5;
/// The limit of Spark's own clients. A batch of rows is at most 4 MiB.
const ANSWER_BYTES_MAX: usize = 128 << 20;

#[derive(Clone)]
pub(super) struct Rpc {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Rpc {
    /// Connects on the first call, and reconnects when the connection breaks.
    pub fn new(address: &SparkAddress, settings: &SparkSettings) -> Result<Rpc> {
        let bad = |error: &dyn std::error::Error| SparkError::Unusable(format!("{address} cannot be used: {error}"));
        let scheme = if address.use_ssl { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}:{}", address.host, address.port));
        let endpoint = endpoint.map_err(|error| bad(&error))?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(CONNECT_SECONDS)).tcp_nodelay(true);
        let endpoint = if address.use_ssl { with_tls(endpoint, address, settings)? } else { endpoint };
        let authorization = match &address.token {
            Some(token) => {
                let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|error| bad(&error))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Rpc { channel: endpoint.connect_lazy(), authorization })
    }

    pub async fn unary<R: Unary>(&self, message: R) -> Result<R::Answer, Status> {
        let codec = ProstCodec::<R, R::Answer>::default();
        let answer =
            self.ready().await?.unary(self.request(message), PathAndQuery::from_static(R::PATH), codec).await?;
        Ok(answer.into_inner())
    }

    pub async fn streamed<R: Streamed>(&self, message: R) -> Result<Streaming<ExecutePlanResponse>, Status> {
        let codec = ProstCodec::<R, ExecutePlanResponse>::default();
        let path = PathAndQuery::from_static(R::PATH);
        Ok(self.ready().await?.server_streaming(self.request(message), path, codec).await?.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        Ok(grpc)
    }

    fn request<R>(&self, message: R) -> Request<R> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }
}

#[cfg(feature = "tls")]
fn with_tls(endpoint: Endpoint, address: &SparkAddress, settings: &SparkSettings) -> Result<Endpoint> {
    use tonic::transport::{Certificate, ClientTlsConfig};

    let bad = |what: String| SparkError::Unusable(format!("{address} cannot be used with TLS: {what}"));
    let mut tls = ClientTlsConfig::new().domain_name(address.host.trim_matches(['[', ']']));
    tls = match &settings.ca_file {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|error| bad(format!("{}: {error}", path.display())))?;
            tls.ca_certificate(Certificate::from_pem(pem))
        }
        None => tls.with_native_roots(),
    };
    endpoint.tls_config(tls).map_err(|error| bad(error.to_string()))
}

#[cfg(not(feature = "tls"))]
fn with_tls(_: Endpoint, address: &SparkAddress, _: &SparkSettings) -> Result<Endpoint> {
    let text = format!("{address} requires TLS, but this program was built without it; build it with --features tls");
    Err(SparkError::Unusable(text))
}
