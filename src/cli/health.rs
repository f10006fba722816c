//! `scrutin health`: for whatever supervises the serving process, such as a container engine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::table::print;
use crate::config::Settings;

/// A process that does not answer within this time is unhealthy.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Ask only whether the process is alive, not whether everything it needs is available
    #[arg(long)]
    alive: bool,
}

/// Asks the page at the address it listens on; exits with 4 if it is not ready.
pub(super) async fn run(args: Args, settings: Settings) -> Result<ExitCode> {
    let path = if args.alive { "/healthz" } else { "/readyz" };
    let address = reachable(settings.listen);
    let answer = tokio::time::timeout(PATIENCE, ask(address, path)).await;
    let answer = answer.map_err(|_| anyhow!("no answer from {address} within {} s", PATIENCE.as_secs()))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("read the answer")?;
    print(&format!("{}\n", body.trim()))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(4)),
    }
}

/// The loopback address, for a page that listens on all addresses.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip().is_unspecified() {
        true => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port()),
        false => listen,
    }
}

async fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("reach the page at {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("ask the page")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("read the answer")?;
    Ok(answer)
}
