//! Accepts connections, with limits on their number and on how slowly a client may send a request or read a response.
//!
//! axum's own `serve` has no such limits, so connections are accepted here and driven by hyper. HTTP/1 only: HTTP/2 to
//! browsers is left to a TLS proxy.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Version, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use super::limit::Peer;
use super::live::VIEWERS_MAX;

/// Room for all viewers and as many other clients; further connections wait in the system's queue.
const CONNECTIONS_MAX: usize = 2 * VIEWERS_MAX;

/// How long to wait for a client.
#[derive(Clone, Copy)]
struct Waits {
    /// For a whole request head, from the connection's start or the previous response.
    head: Duration,
    /// For the client to read some of what it was sent.
    write: Duration,
}

const WAITS: Waits = Waits { head: Duration::from_secs(20), write: Duration::from_secs(30) };

/// Maximum size of a request head.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Pause after an accept error that is not the client's: there may be no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long responses in progress may take after a stop is requested.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Serves until `stop` turns true, then finishes responses in progress.
pub async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve_waiting(listener, router, stop, WAITS).await;
}

async fn serve_waiting(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>, waits: Waits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(waits.head).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let connections = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_client(&error) {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        send_at_once(&stream);
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answer = names_one_host(&request).then(|| inner.call(request));
            async {
                Ok::<_, Infallible>(match answer {
                    Some(answer) => answer.await.unwrap_or_else(|never| match never {}),
                    None => (StatusCode::BAD_REQUEST, "expected exactly one Host header\n").into_response(),
                })
            }
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(waits.write));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "connection aborted");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_WAIT, connections.shutdown()).await.is_err() {
        // A viewer that reads nothing must not delay the shutdown.
        tracing::info!("closed connections with responses still in progress");
    }
}

/// Exactly one valid Host, so that a proxy and this server cannot see different hosts (RFC 9112, section 3.2).
fn names_one_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            host.is_empty() || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
        }
        (None, None) => request.version() < Version::HTTP_11,
        _ => false,
    }
}

/// Disables Nagle's algorithm: events are small and must not wait for more data.
fn send_at_once(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}

fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_client_that_sends_no_request_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop_sender, stop) = watch::channel(false);
        let router = Router::new().route("/", get(async || "here"));
        let waits = Waits { head: Duration::from_millis(1), ..WAITS };
        let served = tokio::spawn(serve_waiting(listener, router, stop, waits));
        for said in ["", "GET / HTTP/1.1\r\nHost: localh"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // A response or a reset: either ends it.
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!String::from_utf8_lossy(&answer).contains("here"));
        }
        stop_sender.send_replace(true);
        served.await.unwrap();
    }

    struct NotifyOnDrop(Arc<Notify>);

    impl Drop for NotifyOnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_stop_sender, stop) = watch::channel(false);
        let given_up = Arc::new(Notify::new());
        let tells = Arc::clone(&given_up);
        let endless = move || {
            let tells = NotifyOnDrop(Arc::clone(&tells));
            let more = move || {
                let _held = &tells;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096]))
            };
            async { Body::from_stream(futures_util::stream::repeat_with(more)) }
        };
        let router = Router::new().route("/", get(endless));
        let waits = Waits { write: Duration::from_millis(1), ..WAITS };
        let served = tokio::spawn(serve_waiting(listener, router, stop, waits));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // The client is still connected, and reads nothing.
        given_up.notified().await;
        drop(stream);
        served.abort();
    }
}
