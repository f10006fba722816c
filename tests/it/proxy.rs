//! A TCP proxy on loopback that can cut or stall its connections. It does not interpret the data.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Further connections wait until others end.
const CONNECTIONS_MAX: usize = 256;

/// Runs on its own thread. On drop, it ends with all its connections.
pub struct Proxy {
    port: u16,
    plan: watch::Sender<Plan>,
    open: Open,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Line {
    Healthy,
    Stalled,
    Cut,
    Ended,
}

#[derive(Clone)]
struct Plan {
    line: Line,
    /// Where connections are forwarded to.
    to: Server,
}

#[derive(Clone)]
enum Server {
    Port(u16),
    Socket(Arc<Path>),
}

/// The number of open connections; notifies when one ends.
type Open = Arc<(Mutex<usize>, Condvar)>;

impl Proxy {
    /// Forwards to this local port.
    pub fn to(port: u16) -> Proxy {
        Proxy::start(Server::Port(port))
    }

    /// Forwards to this socket in a folder.
    pub fn to_socket(path: &Path) -> Proxy {
        Proxy::start(Server::Socket(path.into()))
    }

    fn start(to: Server) -> Proxy {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on loopback");
        listener.set_nonblocking(true).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (plan, plans) = watch::channel(Plan { line: Line::Healthy, to });
        let open = Open::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("make a runtime");
        let counter = Arc::clone(&open);
        let thread = std::thread::spawn(move || runtime.block_on(accept(listener, plans, counter)));
        Proxy { port: own_port, plan, open, thread: Some(thread) }
    }

    /// Forwards to a server that does not listen yet, and may first need this proxy's port; see [`Proxy::pass_on_to`].
    pub fn to_be_told() -> Proxy {
        Proxy::to(0)
    }

    pub fn pass_on_to(&self, port: u16) {
        self.plan.send_modify(|plan| plan.to = Server::Port(port));
    }

    /// The port on 127.0.0.1 where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections before it returns, and each new one at once: the peers see errors.
    pub fn cut(&self) {
        self.set(Line::Cut);
        let (open, ended) = &*self.open;
        let _none = ended.wait_while(open.lock().unwrap(), |open| *open > 0).unwrap();
    }

    /// Keeps connections and accepts new ones, but forwards nothing: the peers see only silence.
    pub fn stall(&self) {
        self.set(Line::Stalled);
    }

    /// Forwards again, starting with what was held back.
    pub fn heal(&self) {
        self.set(Line::Healthy);
    }

    fn set(&self, line: Line) {
        self.plan.send_modify(|plan| plan.line = line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Line::Ended);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, plans: watch::Receiver<Plan>, open: Open) {
    let listener = TcpListener::from_std(listener).expect("listen");
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            let Ok((client, _)) = listener.accept().await else { continue };
            *open.0.lock().unwrap() += 1;
            let ended = Ended(Arc::clone(&open));
            let plans = plans.clone();
            tokio::spawn(async move {
                serve(client, plans).await;
                drop((ended, place));
            });
        }
    };
    let mut end = plans.clone();
    tokio::select! {
        () = accepting => {}
        _ = end.wait_for(|plan| plan.line == Line::Ended) => {}
    }
}

/// Counts a connection as ended, even when the runtime shuts down first.
struct Ended(Open);

impl Drop for Ended {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() -= 1;
        self.0.1.notify_all();
    }
}

async fn serve(client: TcpStream, plans: watch::Receiver<Plan>) {
    let passing = async {
        let to = may_pass(&mut plans.clone()).await?.to;
        let _ = client.set_nodelay(true);
        match to {
            Server::Port(port) => {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                let _ = server.set_nodelay(true);
                both_ways(client, server, &plans).await
            }
            Server::Socket(path) => both_ways(client, UnixStream::connect(path).await?, &plans).await,
        }
    };
    let mut end = plans.clone();
    tokio::select! {
        biased;
        _ = end.wait_for(|plan| matches!(plan.line, Line::Cut | Line::Ended)) => {}
        _ = passing => {}
    }
}

async fn both_ways(
    client: TcpStream,
    server: impl AsyncRead + AsyncWrite,
    plans: &watch::Receiver<Plan>,
) -> std::io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    let (there, back) = (pass(from_client, to_server, plans.clone()), pass(from_server, to_client, plans.clone()));
    tokio::try_join!(there, back).map(drop)
}

/// Copies one direction to its end, and forwards the end of stream.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut plans: watch::Receiver<Plan>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        may_pass(&mut plans).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..len]).await?;
    }
}

async fn may_pass(plans: &mut watch::Receiver<Plan>) -> std::io::Result<Plan> {
    plans.wait_for(|plan| plan.line == Line::Healthy).await.map(|plan| plan.clone()).map_err(std::io::Error::other)
}
