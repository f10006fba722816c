//! The scripts of the containers and of the person who starts them, run with stubs for the programs they call.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::files::root;
use crate::run::{Place, Running};

/// A stub in the place's `bin`, found before the system's program.
fn stand_in(place: &Place, name: &str, script: &str) {
    place.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    allow(&place.path(&format!("bin/{name}")), 0o755);
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A clone, as far as the scripts read it.
fn clone() -> Place {
    let place = Place::bare();
    place.write("elections/presidential/regions.csv", "code,name\n");
    run(Command::new("cp").arg("-R").arg(root().join("deploy")).arg(place.path("")));
    // Independent of the umask of whoever runs the tests.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(place.path("")));
    place
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A script of the clone.
fn script(place: &Place, line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(place.path(words.next().unwrap()));
    let path = std::env::var("PATH").unwrap();
    command.args(words).env_clear().env("PATH", format!("{}:{path}", place.path("bin").display()));
    command
}

/// A machine that meets all requirements.
fn good_machine() -> Place {
    let place = clone();
    docker(&place, "28.1.1", 8 << 30, "2.40.0");
    stand_in(&place, "df", "echo head; echo /dev/vda 264212084 25823852 69677412 28% /");
    place
}

fn docker(place: &Place, version: &str, memory: u64, compose: &str) {
    let script = format!(
        "case \"$*\" in info*) echo '{version} {memory} /';; 'compose version --short') echo '{compose}';; ps*) ;; *) exit 9;; esac"
    );
    stand_in(place, "docker", &script);
}

#[test]
fn check_says_what_a_machine_lacks() {
    let check = |place: &Place, settings: &[(&str, &str)]| {
        let mut command = script(place, "deploy/check");
        // No program listens there.
        command.env("GRAFANA_PORT", "1").env("PAGE_PORT", "1").envs(settings.iter().copied());
        Running::start(command).end()
    };
    let machine = good_machine();
    for version in ["2.20.3", "v2.40.0-desktop.1", "2.37.1+ds1", "5.0.0"] {
        docker(&machine, "20.10.10", 8_200_000_000, version);
        check(&machine, &[]).ok();
    }
    docker(&machine, "28.1.1", 4 << 30, "2.40.0");
    check(&machine, &[("SPARK", "0")]).ok();

    type Lack = fn(&Place);
    let lacks: [(Lack, &str); 10] = [
        (|it| stand_in(it, "docker", "exit 1"), "Docker does not answer"),
        (|it| stand_in(it, "docker", "echo ' 0 '"), "Docker does not answer"),
        (|it| docker(it, "20.10.9", 8 << 30, "2.40.0"), "Docker 20.10.9 is too old"),
        (|it| docker(it, "28.1.1", 8 << 30, "2.20.2"), "Docker Compose 2.20.2 is too old: 2.20.3 or newer is needed"),
        (|it| docker(it, "28.1.1", 8 << 30, "2.9.0"), "Docker Compose 2.9.0 is too old"),
        (|it| docker(it, "28.1.1", 8 << 30, ""), "docker has no compose"),
        (|it| docker(it, "28.1.1", 4 << 30, "2.40.0"), "Docker has 4096 MB of memory: 7 GB are needed"),
        (|it| stand_in(it, "df", "echo head; echo /dev/vda 9 9 8388607 99% /"), "has 7 GB of free disk"),
        (|it| allow(&it.path("deploy/grafana/dashboards/trust.json"), 0o600), "may not read deploy/grafana/dashboards"),
        (|it| allow(&it.path("elections"), 0o700), "may not read ./elections, and maybe more: chmod -R a+rX deploy"),
    ];
    for (lack, says) in lacks {
        let machine = good_machine();
        lack(&machine);
        let said = check(&machine, &[]).fails(1);
        assert!(said.contains(says) && said.lines().count() == 1, "{says}: {said}");
    }

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port().to_string();
    let said = check(&good_machine(), &[("PAGE_PORT", &taken)]).fails(1);
    assert!(said.contains(&format!("port {taken} is taken by another program: set PAGE_PORT in .env")), "{said}");
    let settings = good_machine();
    settings.write(".env", format!("GRAFANA_PORT={taken}\n"));
    assert!(check(&settings, &[("GRAFANA_PORT", "")]).fails(1).contains("set GRAFANA_PORT"));
}

/// As a user that owns no file, like the containers' users.
#[test]
fn files_that_the_containers_may_not_read_are_named() {
    let place = clone();
    let readable = || {
        let mut command = script(&place, "deploy/scrutin/readable");
        command.arg(place.path("elections"));
        // When not root, make the file unreadable for its own user.
        if nix::unistd::getuid().is_root() {
            command.uid(65534);
        }
        Running::start(command).end()
    };
    readable().ok();
    for (name, mode) in [("elections/presidential/regions.csv", 0o200), ("elections/presidential", 0o300)] {
        let path = place.path(name);
        let before = std::fs::metadata(&path).unwrap().permissions();
        allow(&path, mode);
        let said = readable().fails(3);
        assert!(said.contains(path.to_str().unwrap()) && said.contains("chmod -R a+rX"), "{said}");
        std::fs::set_permissions(&path, before).unwrap();
    }
}

/// The container restarts with the machine, and whenever it has exited.
#[test]
fn the_votes_container_waits_once_all_votes_are_cast() {
    let place = clone();
    stand_in(&place, "scrutin", "echo \"scrutin $*\"");
    let votes = Running::start(script(&place, "deploy/scrutin/election votes"));
    assert_eq!(votes.says("scrutin "), "scrutin simulate --seed 1 --speed 1 --truth /data/truth.json");
    votes.says("all votes of the day are cast");
    votes.signal(Signal::SIGTERM);
    assert_eq!(votes.end().code, Some(143));

    stand_in(&place, "scrutin", "exit 4");
    Running::start(script(&place, "deploy/scrutin/election votes")).end().fails(4);

    // When stopped while casting, it exits as the program does.
    stand_in(
        &place,
        "scrutin",
        "trap 'kill $!; echo finished; exit 0' TERM; sleep infinity >&- 2>&- & echo casting; wait",
    );
    let votes = Running::start(script(&place, "deploy/scrutin/election votes"));
    votes.says("casting");
    votes.signal(Signal::SIGTERM);
    assert!(votes.end().ok().contains("finished"));
}

#[test]
fn spark_is_started_with_the_memory_that_is_set() {
    let place = clone();
    let report = "env | grep ^SPARK_; echo \"$(basename \"$0\") $*\"; ls \"$SCRATCH\"";
    for name in ["spark-submit", "spark-class"] {
        stand_in(&place, name, report);
    }
    stand_in(&place, "hostname", "case ${1:-} in -i) echo 'fd00::2 172.18.0.5 10.0.0.2';; *) echo box;; esac");
    place.write("scratch/killed/block", "what a server that was killed has left");
    place.write("scratch/held/block", "what one that runs has");
    let scratch = place.path("scratch");
    let mut holder = Command::new("sh");
    holder.args(["-c", "exec 9<\"$0\"; flock 9; echo held; exec sleep infinity"]).arg(scratch.join("held"));
    let holder = Running::start(holder);
    holder.says("held");
    let start = |role: &str| {
        let mut command = script(&place, &format!("deploy/spark/server {role}"));
        command.env("SPARK_HOME", place.path("")).env("SCRATCH", &scratch).env("SPARK_MEMORY", "5g");
        command.env("SPARK_DAEMON_MEMORY", "9g");
        Running::start(command).end().ok()
    };

    let server = start("connect");
    assert!(server.contains("--driver-memory 5g --conf spark.executor.memory=5g"), "{server}");
    assert!(server.contains("--conf spark.driver.host=172.18.0.5 "), "{server}");
    // That would set the heap of a daemon.
    assert!(!server.contains("SPARK_DAEMON_MEMORY"), "{server}");
    assert!(server.contains(&format!("SPARK_LOCAL_DIRS={}/", scratch.display())), "{server}");
    assert!(server.contains("\nheld\n") && !server.contains("killed"), "{server}");
    assert_eq!(
        server.lines().skip_while(|line| !line.starts_with("spark-submit ")).count(),
        3,
        "its own folder and the held one"
    );

    let worker = start("worker");
    assert!(worker.contains("Worker --memory 5g --work-dir"), "{worker}");
    let master = start("master");
    assert!(master.contains("Master --host box --port 7077"), "{master}");
    for daemon in [worker, master] {
        assert!(daemon.contains("SPARK_DAEMON_MEMORY=384m"), "{daemon}");
    }
    drop(holder);
    assert!(!start("connect").contains("held"), "the folder is no longer held");
}
