//! The life cycle of the private server: created, stopped, restarted, killed, adopted, shared, and rejected with a
//! reason.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scrutin_postgres::Cluster;
use scrutin_store::Role;

use crate::kit::guarded_folder;

async fn start(folder: &Path) -> Cluster {
    Cluster::start(folder).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn run(cluster: &Cluster, sql: &str) {
    let client = cluster.database().connect(Role::Owner).await.unwrap_or_else(|error| panic!("{error}"));
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn count(cluster: &Cluster) -> i64 {
    let client = cluster.database().connect(Role::Owner).await.unwrap_or_else(|error| panic!("{error}"));
    client.query_one("SELECT count(*) FROM public.kept", &[]).await.expect("the table exists").get(0)
}

#[tokio::test]
async fn the_server_keeps_its_data_over_stops_kills_and_stale_pid_files() {
    let (folder, _guard) = guarded_folder();
    let cluster = start(&folder).await;
    run(&cluster, "CREATE TABLE public.kept AS SELECT 1").await;
    let database = cluster.database();
    cluster.stop().await.unwrap();
    let error = database.connect(Role::Owner).await.expect_err("the server is stopped");
    assert!(error.is_transient(), "{error}");

    // The process id of the dead server now belongs to another process.
    let stale = format!("{}\n{}/postgres\n1700000000\n5432\n\n\n", std::process::id(), folder.display());
    std::fs::write(folder.join("postgres/postmaster.pid"), stale).unwrap();
    let cluster = start(&folder).await;
    run(&cluster, "INSERT INTO public.kept SELECT 2").await;

    kill(Pid::from_raw(cluster.pid()), Signal::SIGKILL).unwrap();
    let again = start(&folder).await;
    assert_eq!(count(&again).await, 2);
    // Other users cannot take the locks either.
    for file in ["postgres.password", "postgres.log", "postgres.lock", "postgres.users"] {
        assert_eq!(std::fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }

    // The command shown to the user works, including the password.
    let shown = format!("{} -Atc 'SELECT count(*) FROM public.kept'", again.psql_command());
    let output = Command::new("/bin/sh").args(["-c", &shown]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test: the process that the next test kills.
#[tokio::test]
#[ignore = "a part of another test"]
async fn starter() {
    let Ok(folder) = std::env::var("SCRUTIN_TEST_STARTER") else { return };
    let cluster = start(Path::new(&folder)).await;
    println!("\nstarted {}", cluster.pid());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_whose_starter_was_killed_is_adopted_and_then_stopped() {
    let (folder, _guard) = guarded_folder();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "postgres::starter", "--ignored", "--nocapture"]).env("SCRUTIN_TEST_STARTER", &folder);
    let mut starter = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(starter.stdout.take().unwrap()).lines();
    let pid: i32 = lines
        .find_map(|line| line.expect("the starter prints").strip_prefix("started ").map(str::to_owned))
        .expect("the server starts")
        .parse()
        .unwrap();
    starter.kill().unwrap();
    starter.wait().unwrap();

    let cluster = start(&folder).await;
    assert_eq!(cluster.pid(), pid);
    run(&cluster, "CREATE TABLE public.kept AS SELECT 1").await;
    let second = start(&folder).await;
    cluster.stop().await.unwrap();
    assert_eq!(count(&second).await, 1, "a server still in use was stopped");
    let refused = Cluster::remove(&folder).await.unwrap_err().to_string();
    assert!(refused.contains("another process is using PostgreSQL in"), "{refused}");
    let database = second.database();
    second.stop().await.unwrap();
    database.connect(Role::Owner).await.expect_err("the last user did not stop it");
    Cluster::remove(&folder).await.unwrap();
    assert!(!folder.join("postgres").exists() && !folder.join("postgres.password").exists());
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let (folder, _guard) = guarded_folder();
    start(&folder).await.stop().await.unwrap();
    let settings = folder.join("postgres/postgresql.conf");
    let good = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{good}\nnonsense = on\n")).unwrap();
    let text = Cluster::start(&folder).await.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("did not start") && text.contains("unrecognized configuration parameter"), "{text}");
    std::fs::write(&settings, good).unwrap();

    let version = folder.join("postgres/PG_VERSION");
    let major = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "9\n").unwrap();
    let text = Cluster::start(&folder).await.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("written by PostgreSQL 9, which is not installed"), "{text}");
    std::fs::write(&version, major).unwrap();

    std::fs::write(folder.join("postgres.password"), "another").unwrap();
    let text = Cluster::start(&folder).await.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("does not match the cluster"), "{text}");
}

/// A socket path is limited to about 100 bytes. When running as root, the server's account cannot enter a private
/// folder.
#[tokio::test]
async fn long_paths_and_private_folders_are_worked_around() {
    let (folder, _guard) = guarded_folder();
    let long: PathBuf = folder.join("a folder's name that is long ".repeat(5).trim_end());
    let cluster = start(&long).await;
    run(&cluster, "SELECT 1").await;
    let shown = format!("{} -Atc 'SELECT 1'", cluster.psql_command());
    let output = Command::new("/bin/sh").args(["-c", &shown]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{}", String::from_utf8_lossy(&output.stderr));
    cluster.stop().await.unwrap();
    Cluster::remove(&long).await.unwrap();

    if nix::unistd::geteuid().is_root() {
        let private = folder.join("private");
        std::fs::create_dir(&private).unwrap();
        std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
        let cluster = start(&private).await;
        assert!(!cluster.folder().starts_with(&folder), "{}", cluster.folder().display());
        run(&cluster, "CREATE TABLE public.kept AS SELECT 1").await;
        let place = cluster.folder().to_owned();
        cluster.stop().await.unwrap();
        let cluster = start(&private).await;
        assert_eq!((cluster.folder(), count(&cluster).await), (&*place, 1));
        cluster.stop().await.unwrap();
        Cluster::remove(&private).await.unwrap();
        assert!(!place.exists());
    }
}
