//! Two PostgreSQL servers, one a streaming standby that takes over from the other.

use std::path::PathBuf;
use std::process::{ChildStdin, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scrutin_postgres::Cluster;
use scrutin_store::Role;

use crate::kit;
use crate::run::is_gone;

pub struct Pair {
    folders: [PathBuf; 2],
    _guards: [ChildStdin; 2],
    servers: [Cluster; 2],
    primary: usize,
}

impl Pair {
    pub async fn start() -> Pair {
        let [(first, guard), (second, other)] = std::array::from_fn(|_| kit::guarded_folder());
        let folders = [first, second];
        let primary = Cluster::start(&folders[0]).await.unwrap();
        let settings = primary.folder().join("postgresql.conf");
        primary.stop().await.unwrap();
        let mut text = std::fs::read_to_string(&settings).unwrap();
        text.push_str("wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\n");
        std::fs::write(&settings, text).unwrap();
        let primary = Cluster::start(&folders[0]).await.unwrap();
        std::fs::copy(folders[0].join("postgres.password"), folders[1].join("postgres.password")).unwrap();
        copy(&primary, &folders[1].join("postgres")).await;
        let standby = Cluster::start(&folders[1]).await.unwrap();
        Pair { folders, _guards: [guard, other], servers: [primary, standby], primary: 0 }
    }

    /// One address with both servers, for a session on whichever accepts commits.
    pub fn url(&self) -> String {
        let urls = self.servers.each_ref().map(Cluster::url);
        let host = |url: &str| url.split(['@', '/']).nth(3).unwrap().to_owned();
        let (user, _) = urls[0].split_once('@').unwrap();
        format!("{user}@{},{}/scrutin?target_session_attrs=read-write", host(&urls[0]), host(&urls[1]))
    }

    /// The process id of the primary.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.servers[self.primary].pid())
    }

    /// Sends SIGKILL to the primary and waits until it is gone.
    pub fn kill_primary(&self) {
        let pid = self.pid();
        kill(pid, Signal::SIGKILL).unwrap();
        while !is_gone(pid.as_raw() as u32) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Starts a killed primary.
    pub async fn start_primary(&mut self) {
        self.servers[self.primary] = Cluster::start(&self.folders[self.primary]).await.unwrap();
    }

    /// Promotes the standby.
    pub async fn promote(&mut self) {
        self.primary = 1 - self.primary;
        let client = self.servers[self.primary].database().connect(Role::Owner).await.unwrap();
        client.execute("SELECT pg_promote()", &[]).await.unwrap();
    }

    /// Turns the dead former primary into a standby.
    pub async fn renew_standby(&mut self) {
        let old = 1 - self.primary;
        // A session of the dead primary may still be exiting.
        let (folder, dead) = (self.folders[old].join("postgres"), self.folders[old].join("dead"));
        if dead.exists() {
            std::fs::remove_dir_all(&dead).unwrap();
        }
        std::fs::rename(&folder, dead).unwrap();
        copy(&self.servers[self.primary], &folder).await;
        self.servers[old] = Cluster::start(&self.folders[old]).await.unwrap();
    }
}

/// A copy of a server that streams from it once started.
async fn copy(primary: &Cluster, to: &std::path::Path) {
    let client = primary.database().connect(Role::Owner).await.unwrap();
    let programs = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
    let programs: String = client.query_one(programs, &[]).await.unwrap().get(0);
    let mut backup = Command::new(format!("{programs}/pg_basebackup"));
    backup.args(["--write-recovery-conf", "--checkpoint", "fast", "--dbname", &primary.url(), "--pgdata"]).arg(to);
    let mut owner = Command::new("chown");
    owner.args(["-R", "--reference"]).args([primary.folder(), to]);
    for command in [&mut backup, &mut owner] {
        assert!(command.status().unwrap().success(), "{command:?}");
    }
}
