//! TLS and passwords.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::Stage;
use crate::broker::Broker;
use crate::run::Running;

/// The value of a setting in a properties file.
fn value(file: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_password_logins_work_and_no_password_is_printed() {
    let broker = Broker::secure();
    let stage = Stage::on(&broker).await;
    let log = format!("{}/{}", broker.secure_address(), stage.topic.name);
    let passwords = ["scram", "plain"].map(|way| value(&broker.properties(way), "sasl.password"));
    let start = |line: &str, file: &Path| {
        stage.place.start(&format!("{line} --log {log} --kafka-config {} --log-level debug", file.display()))
    };
    let end = |line: &str, running: Running| {
        let done = running.end();
        for password in &passwords {
            assert!(!done.out.contains(password) && !done.err.contains(password), "{line} prints a password");
        }
        done
    };
    let run = |line: &str, file: &Path| end(line, start(line, file));
    let [scram, plain] = ["scram", "plain"].map(|way| broker.properties(way));
    run("setup --voters 2000", &scram).ok();
    run("simulate", &scram).ok();
    run("count --drain", &scram).ok();
    run("audit --truth scrutin-data/truth.json", &scram).ok();
    run("count --drain --counter plain", &plain).ok();
    run("audit --counter plain", &plain).ok();
    assert!(run("status", &scram).ok().contains("native and plain: agree"));

    // A wrong password, with each mechanism.
    for (way, file) in [("scram", &scram), ("plain", &plain)] {
        let text = std::fs::read_to_string(file).unwrap();
        stage.place.write("wrong.properties", text.replace(&value(file, "sasl.password"), "not-it"));
        let wrong = stage.place.path("wrong.properties");
        // Each takes seconds, so run them side by side.
        let lines = ["setup", "simulate", "count --drain", "audit", "status"];
        let running: Vec<Running> = lines.iter().map(|line| start(line, &wrong)).collect();
        for (line, running) in lines.iter().zip(running) {
            let said = end(line, running).fails(4);
            let last = said.lines().last().unwrap();
            assert!(last.contains(&log) && last.to_lowercase().contains("authentication"), "{way} {line}: {last}");
            assert!(!said.contains("not-it"), "{line} prints a password");
        }
        // The page is served anyway, and says why it is not ready.
        let serving = start("serve", &wrong);
        serving.page().until("/readyz", |status, body| status == 503 && body.to_lowercase().contains("authentication"));
        serving.signal(Signal::SIGTERM);
        end("serve", serving).ok();
    }

    // The certificate of an authority that did not sign the broker's.
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Another authority"])
        .args(["-keyout", "key.pem", "-out", "ca.pem"])
        .current_dir(stage.place.path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = std::fs::read_to_string(&scram).unwrap();
    let other = stage.place.path("ca.pem").display().to_string();
    stage.place.write("other.properties", text.replace(&value(&scram, "ssl.ca.location"), &other));
    let said = run("count --drain", &stage.place.path("other.properties")).fails(4);
    let last = said.lines().last().unwrap();
    assert!(last.contains(&log) && last.contains("certificate verify failed"), "{last}");
    // Without TLS settings.
    let said = stage.place.fails(&format!("status --log {log}"), 4);
    assert!(said.contains(&log), "{said}");
}
