//! A real pgbouncer between the program and PostgreSQL.

use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::kit::Kit;
use crate::run::{PATIENCE, Place, Running};

struct Pooler {
    child: Child,
    url: String,
}

impl Pooler {
    /// A pooler for the kit's database, in this `pool_mode`.
    fn start(kit: &Kit, mode: &str) -> Pooler {
        let folder = tempfile::tempdir().unwrap().keep();
        let server: Config = kit.url().parse().unwrap();
        let (Host::Unix(socket), database) = (&server.get_hosts()[0], server.get_dbname().unwrap()) else {
            panic!("the tests' own server listens on a socket");
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (user, password) =
            (server.get_user().unwrap(), String::from_utf8_lossy(server.get_password().unwrap()).into_owned());
        let file = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{database} = host={} port={} user={user} password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
            socket.display(),
            server.get_ports()[0],
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(if Path::new(DEBIANS).exists() { DEBIANS } else { "pgbouncer" });
        if Uid::effective().is_root() {
            // pgbouncer refuses to run as root; the server's account may use its socket.
            let uid = Uid::from_raw(socket.metadata().unwrap().uid());
            let account = User::from_uid(uid).unwrap().unwrap();
            command.args(["-u", &account.name]);
            std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        }
        let child = command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("start pgbouncer; `tools/setup` installs it");
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Pooler { child, url: format!("postgresql://{user}@127.0.0.1:{port}/{database}") }
    }

    fn run(&self, place: &Place, line: &str) -> crate::run::Done {
        let mut command = place.command(line);
        command.env("DATABASE_URL", &self.url);
        Running::start(command).end()
    }
}

const DEBIANS: &str = "/usr/sbin/pgbouncer";

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_connections_is_refused_and_named() {
    let (kit, place) = (Kit::empty().await, Place::bare());
    let sessions = Pooler::start(&kit, "session");
    sessions.run(&place, "setup --voters 2000").ok();
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(&kit, mode);
        for line in ["setup --voters 2000", "count --drain", "audit", "results", "serve"] {
            let done = pooler.run(&place, line);
            assert_eq!(done.code, Some(4), "{mode} {line}: {done}");
            assert!(done.err.contains("set pool_mode=session for this database"), "{mode} {line}: {done}");
        }
    }
    // A pooler in session mode behaves like a direct connection.
    sessions.run(&place, "simulate --speed max").ok();
    sessions.run(&place, "count --drain").ok();
    sessions.run(&place, "audit --truth scrutin-data/truth.json").ok();
}
