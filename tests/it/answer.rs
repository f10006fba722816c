//! The connection breaks between COMMIT and its answer, and the server executes the COMMIT only after the program has
//! started asking whether it succeeded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::crash::{read_message, socket_of, statement_of, through};
use crate::kit::Kit;
use crate::run::{PATIENCE, Place, Running};

/// Signals that the connection is broken, and passes back the channel that triggers delivery of the COMMIT.
type Broken = Arc<Mutex<Option<oneshot::Sender<oneshot::Sender<()>>>>>;

/// Forwards a session up to the COMMIT of the first transaction that writes votes. It then breaks the program's
/// connection, signals that, and delivers the COMMIT on request.
async fn pass_on(
    client: TcpStream,
    server: UnixStream,
    is_armed: Arc<AtomicBool>,
    broken: Broken,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut texts = std::collections::HashMap::new();
    let (mut is_first, mut writes_votes) = (true, false);
    while let Some(message) = read_message(&mut from_client, is_first).await? {
        is_first = false;
        let text = statement_of(&message, &mut texts);
        writes_votes |= text.contains("INSERT INTO tally");
        if writes_votes && text.starts_with("COMMIT") && is_armed.swap(false, Ordering::SeqCst) {
            drop(from_client);
            back.abort();
            let (deliver, delivery) = oneshot::channel();
            let broken = broken.lock().unwrap().take().expect("armed only once");
            broken.send(deliver).expect("the test is waiting");
            delivery.await.expect("the test triggers the delivery");
            to_server.write_all(&message).await?;
            // Close the session by EOF only, so that nothing but COMMIT reaches the server.
            return to_server.shutdown().await;
        }
        to_server.write_all(&message).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_still_running_is_awaited_and_recognised() {
    if std::env::var("SCRUTIN_TEST_DATABASE_URL").is_ok() {
        eprintln!("SKIPPED a_commit_still_running: needs the kit's own PostgreSQL");
        return;
    }
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.ok("setup --voters 20000 --day 1h");
    place.ok("simulate --speed max");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = through(kit.url(), listener.local_addr().unwrap().port());
    let socket = socket_of(kit.url());
    let is_armed = Arc::new(AtomicBool::new(true));
    let (broken, breaks) = oneshot::channel();
    let broken: Broken = Arc::new(Mutex::new(Some(broken)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (is_armed, broken) = (Arc::clone(&is_armed), Arc::clone(&broken));
            let server = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move {
                let _ = pass_on(client, server, is_armed, broken).await;
            });
        }
    });
    let mut command = place.command("count --drain");
    command.env("DATABASE_URL", url);
    let count = Running::start(command);

    let deliver = tokio::time::timeout(PATIENCE, breaks).await.expect("the program commits").unwrap();
    // The program has reconnected and waits for its turn behind the session it lost.
    let watcher = kit.owner().await;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let deadline = Instant::now() + PATIENCE;
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(Instant::now() < deadline, "the program never asked whether its commit succeeded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deliver.send(()).unwrap();
    let said = tokio::task::spawn_blocking(move || count.end().ok()).await.unwrap();
    assert!(said.contains("0 left in the log"), "{said}");
    let audit = place.ok("audit --truth scrutin-data/truth.json");
    assert!(audit.contains("clean") && audit.contains("every total matches the ground truth"), "{audit}");
}
