//! Per-client rate limits on requests that may cost PostgreSQL a query.
//!
//! A client is an IPv4 address, or an IPv6 /64, which networks assign as a whole. Each client has a rate per second,
//! may burst to four times that after a pause, and has at most two requests in progress. Assets, health checks and
//! metrics are not limited.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PageOptions;
use super::error::ApiError;

const BURST_SECONDS: u32 = 4;

/// Clients tracked one by one. A client idle for the length of a burst is forgotten; beyond this many active clients,
/// new ones share [`SHARED_QUOTAS`].
const CLIENTS_MAX: usize = 1 << 16;
const SHARED_QUOTAS: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    V4([u8; 4]),
    V6([u8; 8]),
    Shared(u8),
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(address) => Client::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Client::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Client {
    fn shared(self) -> Client {
        match self {
            Client::V4([.., last]) | Client::V6([.., last]) => Client::Shared(last % SHARED_QUOTAS),
            shared => shared,
        }
    }
}

/// Concurrent requests of one client. Its further requests wait without delaying other clients.
const AT_ONCE: usize = 2;

/// How long a request waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

pub struct Limiter {
    /// Clients with requests in progress or waiting.
    turns: Mutex<HashMap<Client, Arc<Semaphore>>>,
    /// None: no limit.
    quotas: Option<RateLimiter<Client, HashMapStateStore<Client>, MonotonicClock>>,
    clients_max: usize,
    started: Instant,
    /// Seconds since `started` when idle clients were last forgotten.
    tidied: AtomicU64,
    behind_proxy: bool,
}

impl Limiter {
    pub fn new(options: &PageOptions) -> Limiter {
        let quotas = NonZeroU32::new(options.requests_per_second).map(|rate| {
            let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
            RateLimiter::hashmap_with_clock(Quota::per_second(rate).allow_burst(burst), MonotonicClock)
        });
        Limiter {
            turns: Mutex::default(),
            quotas,
            clients_max: CLIENTS_MAX,
            started: Instant::now(),
            tidied: AtomicU64::new(0),
            behind_proxy: options.behind_proxy,
        }
    }

    /// Admits a request, or returns how long to wait.
    fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(quotas) = &self.quotas else { return Ok(()) };
        let mut client = Client::from(address);
        if quotas.len() >= self.clients_max {
            // Scanning all clients takes a while, so do it at most once a second.
            let second = self.started.elapsed().as_secs() + 1;
            if self.tidied.swap(second, Ordering::Relaxed) != second {
                quotas.retain_recent();
            }
            if quotas.len() >= self.clients_max {
                client = client.shared();
            }
        }
        quotas.check_key(&client).map_err(|early| early.wait_time_from(MonotonicClock.now()))
    }

    /// Waits until fewer of the client's requests are in progress; none if that takes too long.
    async fn turn(&self, address: IpAddr) -> Option<Turn<'_>> {
        let client = Client::from(address);
        let turns = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(client).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        let mut turn = Turn { limiter: self, client, permit: None };
        turn.permit = Some(tokio::time::timeout(TURN_WAIT, turns.acquire_owned()).await.ok()?.ok()?);
        Some(turn)
    }

    /// The client's address: the peer, or the one the proxy names. Only the last entry of X-Forwarded-For is the
    /// proxy's own; earlier entries come from the client and can be forged.
    fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        if !self.behind_proxy {
            return peer.ip();
        }
        let line = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
        let last = line.and_then(|line| line.rsplit(',').next()).map(str::trim);
        let named = last.and_then(|text| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            // Some proxies include the port.
            bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
        });
        named.unwrap_or(peer.ip())
    }
}

/// A request in progress, or waiting for its turn.
struct Turn<'a> {
    limiter: &'a Limiter,
    client: Client,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut all = self.limiter.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.client).is_some_and(|turns| Arc::strong_count(turns) == 1) {
            all.remove(&self.client);
        }
    }
}

/// The remote end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Responds with 429 to clients over their quota.
pub async fn per_client(
    State(limiter): State<Arc<Limiter>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let refuse =
        |what, seconds| ApiError::new(StatusCode::TOO_MANY_REQUESTS, what).retry_after(seconds).into_response();
    let address = limiter.address(peer, request.headers());
    if let Err(early) = limiter.admit(address) {
        let what = "too many requests; see Retry-After for how many seconds to wait";
        return refuse(what, early.as_secs() as u32 + 1);
    }
    if limiter.quotas.is_none() {
        return next.run(request).await;
    }
    match limiter.turn(address).await {
        Some(_turn) => next.run(request).await,
        None => refuse("too many concurrent requests; send them one at a time", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests_per_second: u32, behind_proxy: bool) -> Limiter {
        Limiter::new(&PageOptions { requests_per_second, behind_proxy, ..PageOptions::default() })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_its_own_burst() {
        // Slow enough that no quota is restored while this runs.
        let limiter = limiter(1, false);
        for _ in 0..BURST_SECONDS {
            assert_eq!(limiter.admit(ip("192.0.2.1")), Ok(()));
        }
        let early = limiter.admit(ip("192.0.2.1")).unwrap_err();
        assert!(early <= Duration::from_secs(1), "{early:?}");
        assert!(limiter.admit(ip("::ffff:192.0.2.1")).is_err(), "the same address in IPv6 notation");
        assert_eq!(limiter.admit(ip("192.0.2.2")), Ok(()));
        assert_eq!(limiter.admit(ip("2001:db8::1")), Ok(()));
    }

    #[tokio::test]
    async fn each_client_waits_for_its_own_turns() {
        let limiter = limiter(1, false);
        let [first, second] = [limiter.turn(ip("192.0.2.1")).await, limiter.turn(ip("192.0.2.1")).await];
        assert!(first.is_some() && second.is_some());
        let other = limiter.turn(ip("192.0.2.2")).await;
        assert!(other.is_some());
        {
            let waiting = std::pin::pin!(limiter.turn(ip("192.0.2.1")));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(Future::poll(waiting, &mut context).is_pending());
        }
        drop(first);
        let third = limiter.turn(ip("192.0.2.1")).await;
        assert!(third.is_some());
        drop((second, other, third));
        assert!(limiter.turns.lock().unwrap().is_empty(), "clients without requests are forgotten");
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let limiter = limiter(1, false);
        let admitted = (0..100u16).filter(|n| limiter.admit(ip(&format!("2001:db8::{n:x}"))).is_ok()).count();
        assert_eq!(admitted, BURST_SECONDS as usize);
        assert_eq!(limiter.admit(ip("2001:db8:0:1::1")), Ok(()));
    }

    #[test]
    fn without_a_rate_all_are_admitted() {
        let limiter = limiter(0, false);
        assert!((0..10_000).all(|_| limiter.admit(ip("192.0.2.1")).is_ok()));
    }

    #[test]
    fn the_number_of_tracked_clients_is_bounded() {
        let mut limiter = limiter(1, false);
        limiter.clients_max = 1000;
        let all = (0..20_000u32).map(|n| IpAddr::from((0xc000_0000 + n).to_be_bytes()));
        let admitted = all.filter(|address| limiter.admit(*address).is_ok()).count();
        let known = limiter.quotas.as_ref().unwrap().len();
        assert!(known <= 1000 + usize::from(SHARED_QUOTAS), "{known}");
        assert!((1000..20_000).contains(&admitted), "{admitted}");
    }

    #[test]
    fn only_the_proxys_own_entry_is_believed() {
        let peer = SocketAddr::from(([10, 0, 0, 1], 4711));
        let name = HeaderName::from_static("x-forwarded-for");
        let named = |behind_proxy, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| {
                headers.append(name.clone(), line.parse().unwrap());
            });
            limiter(1, behind_proxy).address(peer, &headers)
        };
        assert_eq!(named(false, &["192.0.2.1"]), peer.ip());
        assert_eq!(named(true, &[]), peer.ip());
        assert_eq!(named(true, &["192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(named(true, &["203.0.113.9, 192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(named(true, &["203.0.113.9", "198.51.100.7,192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(named(true, &["2001:db8::1"]), ip("2001:db8::1"));
        assert_eq!(named(true, &["[2001:db8::1]:4711"]), ip("2001:db8::1"));
        assert_eq!(named(true, &["[2001:db8::1]"]), ip("2001:db8::1"));
        assert_eq!(named(true, &["192.0.2.1:80"]), ip("192.0.2.1"));
        assert_eq!(named(true, &["192.0.2.1, unknown"]), peer.ip());
        assert_eq!(named(true, &[""]), peer.ip());
    }
}
