//! compose.yaml and what it must not contain. Each rule is also shown to catch a violation.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::files::{dashboards, list, parse_yaml, read, root, text, yaml};
use super::start;

/// Of 8 GB; the system itself needs some.
const MEMORY_BYTES_MAX: u64 = 7 << 30;

/// The violations in a compose file, one line each.
fn faults(compose: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut memory = 0;
    let services = compose["services"].as_object().expect("there are services");
    for (name, service) in services {
        let mut fault = |what: &str| faults.push(format!("{name}: {what}"));
        let is_pinned = |image: &str| image.contains("@sha256:") || tag(image).is_some_and(|tag| tag != "latest");
        if !service["image"].as_str().is_some_and(|image| is_pinned(&settled(image))) {
            fault("its image has no version");
        }
        // Without a registry in the name, Podman asks or fails.
        let names_registry = |image: &str| image.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']));
        let is_ours = service["image"].as_str().is_some_and(|image| image.starts_with("scrutin"));
        if is_ours && service["pull_policy"] != "never" {
            fault("a registry is asked for an image that is built here");
        }
        if !is_ours && service["image"].as_str().is_some_and(|image| !names_registry(image)) {
            fault("its image names no registry");
        }
        let restart = service["restart"].as_str().unwrap_or_default();
        if restart.is_empty() {
            fault("nothing says whether it is started again");
        }
        // Only the log shows whether the votes are cast.
        let has_health = service["healthcheck"]["test"].is_array() && service["healthcheck"]["disable"] != true;
        if !ends(service) && !has_health && name != "votes" {
            fault("it has no health check");
        }
        match service["mem_limit"].as_str().and_then(|limit| bytes(&settled(limit))) {
            None => fault("its memory has no limit"),
            // A service that ends, or runs only on request, does not compete for memory.
            Some(limit) if !ends(service) && service["profiles"].is_null() => memory += limit,
            Some(_) => {}
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().map(settled);
            if !port.is_some_and(|port| port.starts_with("127.0.0.1:") && port.split(':').count() == 3) {
                fault("a port is published to more than this machine");
            }
        }
        for (key, value) in service["environment"].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), settled);
            let is_secret = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| key.contains(word));
            if is_secret && !value.is_empty() && !value.starts_with("/run/secrets/") {
                fault(&format!("{key} is a default secret"));
            }
            let user = value.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
            if user.is_some_and(|user| user.contains(':')) {
                fault(&format!("{key} has a password in it"));
            }
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let fits = match how["condition"].as_str() {
                Some("service_healthy") => services.get(other).is_some_and(|other| !ends(other)),
                Some("service_completed_successfully") => services.get(other).is_some_and(ends),
                _ => false,
            };
            if !fits {
                fault(&format!("it does not wait until {other} can be used"));
            }
        }
        if name.starts_with("kafka") && service["stop_grace_period"].is_null() {
            fault("it is killed ten seconds after it is asked to stop");
        }
        if is_ours && (service["read_only"] != true || service["cap_drop"][0] != "ALL") {
            fault("it may do more than it needs");
        }
        if service["privileged"] == true || service["network_mode"] == "host" {
            fault("it is not kept apart from the machine");
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let source = settled(volume).split(':').next().unwrap_or_default().to_owned();
            let is_file = source.starts_with('.') && volume.ends_with(":ro,z");
            if !is_file && compose["volumes"].get(&source).is_none() {
                fault(&format!("{volume} is neither a volume with a name nor a file that is only read"));
            }
        }
    }
    // Compose builds all services at once, and one image name cannot be exported twice at the same time.
    for image in ["scrutin:", "scrutin-spark:"] {
        let is_of = |service: &&Value| service["image"].as_str().is_some_and(|name| name.starts_with(image));
        let builders = services.values().filter(is_of).filter(|service| !service["build"].is_null()).count();
        if builders != 1 {
            faults.push(format!("{image} {builders} services build it"));
        }
    }
    if memory > MEMORY_BYTES_MAX {
        faults.push(format!("all together take {} MiB", memory >> 20));
    }
    faults
}

/// Whether the service does its work and exits, so that its exit code shows success.
fn ends(service: &Value) -> bool {
    service["restart"].as_str().is_some_and(|restart| restart == "no" || restart.starts_with("on-failure"))
}

fn tag(image: &str) -> Option<&str> {
    image.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag).filter(|tag| !tag.is_empty())
}

fn bytes(limit: &str) -> Option<u64> {
    let (number, unit) = limit.split_at(limit.len().checked_sub(1)?);
    let unit = BTreeMap::from([("k", 10), ("m", 20), ("g", 30)]).get(unit).copied()?;
    number.parse::<u64>().ok().map(|number| number << unit)
}

/// The text with the default of every variable.
pub fn settled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let (variable, after) = behind.split_once('}').expect("a variable ends");
        out.push_str(before);
        out.push_str(variable.split_once('-').map_or("", |(_, default)| default));
        rest = after;
    }
    out + rest
}

#[test]
fn compose_keeps_its_rules() {
    assert_eq!(faults(&yaml("compose.yaml")), [""; 0]);
}

#[test]
fn every_broken_rule_is_reported() {
    let whole = read(&root().join("compose.yaml"));
    for (good, bad, fault) in [
        ("library/postgres:17", "library/postgres", "postgres: its image has no version"),
        ("library/postgres:17", "library/postgres:latest", "postgres: its image has no version"),
        (
            "image: docker.io/grafana/grafana:12.3.3",
            "image: registry:5000/grafana",
            "grafana: its image has no version",
        ),
        ("image: docker.io/library/postgres:17", "image: postgres:17", "postgres: its image names no registry"),
        ("image: docker.io/grafana/grafana:12.3.3", "build: .", "grafana: its image has no version"),
        ("test: [\"CMD\", \"pg_isready\"", "tests: [\"CMD\", \"pg_isready\"", "postgres: it has no health check"),
        (
            "test: [\"CMD\", \"scrutin\"",
            "disable: true\n    test: [\"CMD\", \"scrutin\"",
            "page: it has no health check",
        ),
        (
            "PASSWORD_FILE: /run/secrets/owner-password\n      POSTGRES",
            "PASSWORD: scrutin\n      POSTGRES",
            "postgres: POSTGRES_PASSWORD is a default secret",
        ),
        (
            "PASSWORD__FILE: /run/secrets/grafana-password",
            "PASSWORD: ${GRAFANA_PASSWORD:-admin}",
            "grafana: GF_SECURITY_ADMIN_PASSWORD is a default secret",
        ),
        (
            "postgresql://scrutin_counter@",
            "postgresql://scrutin_counter:scrutin@",
            "count-native: DATABASE_URL has a password in it",
        ),
        (
            "${BIND:-127.0.0.1}:${GRAFANA_PORT:-3000}:3000",
            "3000:3000",
            "grafana: a port is published to more than this machine",
        ),
        (
            "${BIND:-127.0.0.1}:${PAGE_PORT:-8080}",
            "${BIND:-0.0.0.0}:${PAGE_PORT:-8080}",
            "page: a port is published to more than this machine",
        ),
        ("mem_limit: 768m\n    stop_grace", "stop_grace", "postgres: its memory has no limit"),
        ("mem_limit: ${SPARK_MEM_LIMIT:-3g}", "mem_limit: 6g", "all together take"),
        ("restart: unless-stopped", "labels: []", "kafka: nothing says whether it is started again"),
        (
            "spark: { condition: service_healthy }",
            "spark: { condition: service_started }",
            "count-spark: it does not wait until spark can be used",
        ),
        (
            "- secrets:/run/secrets:ro\n      - ./deploy",
            "- /etc:/run/secrets:ro\n      - ./deploy",
            "grafana: /etc:/run/secrets:ro is neither",
        ),
        ("read_only: true\n  cap_drop: [ALL]\n  tmpfs: [/tmp]", "tmpfs: [/tmp]", "page: it may do more than it needs"),
        ("pull_policy: never # `secrets`", "# `secrets`", "page: a registry is asked for an image that is built here"),
        ("pull_policy: never # `spark`", "# `spark`", "spark: a registry is asked for an image that is built here"),
        ("    build: { context: ., dockerfile: Dockerfile }\n", "", "scrutin: 0 services build it"),
        ("  page:\n", "  page:\n    build: { context: . }\n", "scrutin: 2 services build it"),
        ("stop_grace_period: 1m\n  healthcheck", "healthcheck", "kafka: it is killed ten seconds after"),
    ] {
        assert!(whole.contains(good), "not in compose.yaml: {good}");
        let found = faults(&parse_yaml(&whole.replacen(good, bad, 1)).unwrap_or_else(|error| panic!("{bad}: {error}")));
        assert!(found.iter().any(|found| found.starts_with(fault)), "{bad}: {found:?}");
    }
}

#[test]
fn more_ports_are_published_only_on_request_and_locally() {
    let open = yaml("compose.open.yaml");
    let mut published = 0;
    for service in open["services"].as_object().unwrap().values() {
        assert_eq!(service.as_object().unwrap().keys().collect::<Vec<_>>(), ["ports"]);
        for port in list(service, "ports") {
            assert!(settled(port.as_str().unwrap()).starts_with("127.0.0.1:"), "{port}");
            published += 1;
        }
    }
    assert_eq!(published, 2);
}

/// `.env.example` has every variable of the compose files with its default, and no others.
#[test]
fn every_variable_is_in_the_example() {
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for file in ["compose.yaml", "compose.open.yaml"] {
        let text = read(&root().join(file));
        for part in text.split("${").skip(1) {
            let variable = part.split('}').next().unwrap();
            let (name, default) = variable.split_once('-').unwrap_or_else(|| panic!("{variable} has no default"));
            let known = used.insert(name.trim_end_matches(':').to_owned(), default.to_owned());
            assert!(known.is_none_or(|known| known == default), "{name} has two defaults");
        }
    }
    // Compose's own variables.
    used.insert("COMPOSE_PROFILES".to_owned(), String::new());
    let example = read(&root().join(".env.example"));
    let listed = example.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed: BTreeMap<String, String> = listed
        .map(|line| line.split_once('=').expect("NAME=VALUE"))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect();
    assert_eq!(listed, used);
}

#[test]
fn the_versions_are_the_same_everywhere() {
    let compose = yaml("compose.yaml");
    let image = |service: &str| text(&compose["services"][service], "image").to_owned();
    assert_eq!(image("page"), concat!("scrutin:", env!("CARGO_PKG_VERSION")));
    let package: Value = serde_json::from_str(&read(&root().join("tools/dashboards/package.json"))).unwrap();
    let grafana = text(&package["dependencies"], "@grafana/schema");
    assert_eq!(image("grafana"), format!("docker.io/grafana/grafana:{grafana}"));
    for (name, board) in dashboards() {
        for panel in list(&board, "panels").iter().filter(|panel| panel["type"] != "row") {
            assert_eq!(panel["pluginVersion"], grafana, "{name}");
        }
    }
    let pom = read(&root().join("tools/spark.pom.xml"));
    let spark = pom.split_once("<spark.version>").unwrap().1.split('<').next().unwrap();
    assert_eq!(image("spark"), format!("scrutin-spark:{spark}"));
    let dockerfile = read(&root().join("deploy/spark/Dockerfile"));
    assert!(dockerfile.contains(&format!("FROM docker.io/apache/spark:{spark}\n")));
    assert!(dockerfile.contains(&format!("_2.13-{spark}.jar")));
}

#[test]
fn images_are_of_known_versions_and_no_process_of_ours_is_root() {
    for file in ["Dockerfile", "deploy/spark/Dockerfile"] {
        let dockerfile = read(&root().join(file));
        let mut stages = BTreeSet::new();
        for line in dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")) {
            let (image, stage) = line.split_once(" AS ").unwrap_or((line, ""));
            let is_full = image.starts_with("docker.io/") && tag(image).is_some_and(|tag| tag != "latest");
            assert!(stages.contains(image) || is_full, "{file}: {image}");
            stages.insert(stage);
        }
        let user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER ")).expect("a user");
        assert!(!["root", "0"].contains(&user), "{file}");
        assert!(dockerfile.lines().any(|line| line.starts_with("HEALTHCHECK ")), "{file}");
    }
    let compose = yaml("compose.yaml");
    let roots: Vec<&str> = compose["services"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, service)| service["user"].as_str().is_some_and(|user| user.starts_with('0')))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(roots, ["secrets"], "only `secrets` runs as root, to set the owners of the files");
}

/// Grafana silently treats an unset variable as empty.
#[test]
fn variables_that_grafana_reads_are_set() {
    let environment = start::environment(&[]).unwrap();
    for folder in ["datasources", "dashboards", "alerting"] {
        for entry in std::fs::read_dir(root().join("deploy/grafana/provisioning").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            for variable in read(&path).split("${").skip(1) {
                let name = variable.split('}').next().unwrap();
                assert!(environment.contains_key(name), "{} needs {name}", path.display());
            }
        }
    }
}

/// Regression: an answer of 200,000 rows took Grafana a gigabyte, and a transaction left open took a connection from
/// all other viewers.
#[test]
fn the_resources_one_viewer_can_take_are_bounded() {
    let compose = yaml("compose.yaml");
    let service = &compose["services"]["grafana"];
    let environment = &service["environment"];
    let rows: u32 = text(environment, "GF_DATAPROXY_ROW_LIMIT").parse().unwrap();
    // At least as many as the communes of a country, whose table is shown.
    assert!((36_000..=50_000).contains(&rows), "{rows}");
    let limit = bytes(text(service, "mem_limit")).unwrap();
    let heap = text(environment, "GOMEMLIMIT").strip_suffix("MiB").unwrap().parse::<u64>().unwrap() << 20;
    assert!(limit >= 768 << 20 && heap < limit && heap > limit / 4 * 3, "a heap of {heap} of {limit} bytes");
    assert_eq!(environment["PGOPTIONS"], "-c idle_in_transaction_session_timeout=5s");
}

/// A finished service is not restarted with the machine.
#[test]
fn unfinished_services_resume_after_a_reboot() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let ended = services.iter().filter(|(_, service)| ends(service)).map(|(name, _)| name.as_str());
    assert_eq!(ended.collect::<Vec<_>>(), ["audit", "secrets", "setup"]);
}

/// One variable sets the memory of each Spark process that counts, and one that of its container.
#[test]
fn sparks_server_and_workers_follow_the_same_settings() {
    let compose = yaml("compose.yaml");
    for service in ["spark", "spark-worker"] {
        let service = &compose["services"][service];
        assert_eq!(service["environment"]["SPARK_MEMORY"], "${SPARK_MEMORY:-1g}");
        assert_eq!(service["mem_limit"], "${SPARK_MEM_LIMIT:-3g}");
    }
    let properties = read(&root().join("deploy/spark/server.properties"));
    for process in ["driver", "executor"] {
        let options =
            properties.lines().find_map(|line| line.strip_prefix(&format!("spark.{process}.extraJavaOptions=")));
        assert_eq!(options, Some("-XX:+UseParallelGC -XX:+ExitOnOutOfMemoryError"), "{process}");
    }
    assert!(!properties.contains("spark.local.dir"), "SPARK_LOCAL_DIRS sets it");
}
