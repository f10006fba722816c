//! The sources of settings and their precedence, and the help texts.

use crate::kit::Kit;
use crate::run::{Done, Place, Running};

fn run_with(place: &Place, line: &str, environment: &[(&str, &str)]) -> Done {
    let mut command = place.command(line);
    command.envs(environment.iter().copied());
    Running::start(command).end()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    let setup = |line: &str, environment: &[(&str, &str)]| {
        let out = run_with(&place, &format!("setup --no-election {line}"), environment).ok();
        out.lines().next().unwrap().trim_start_matches("log ").trim().to_owned()
    };
    assert_eq!(setup("", &[]), "scrutin-data/log, 4 partitions");
    place.write("scrutin.toml", "data-dir = \"of-file\"\npartitions = 2\ncounter = \"of-file\"\n");
    place.write("other.toml", "data-dir = \"of-other\"\n");
    assert_eq!(setup("", &[]), "of-file/log, 2 partitions");
    assert_eq!(setup("--config other.toml", &[]), "of-other/log, 4 partitions");
    assert_eq!(setup("", &[("SCRUTIN_CONFIG", "other.toml")]), "of-other/log, 4 partitions");
    let environment = [("SCRUTIN_DATA_DIR", "of-env"), ("SCRUTIN_PARTITIONS", "3"), ("SCRUTIN_COUNTER", "of-env")];
    assert_eq!(setup("", &environment), "of-env/log, 3 partitions");
    assert_eq!(setup("--data-dir of-flag --partitions 5", &environment), "of-flag/log, 5 partitions");
    assert_eq!(setup("--log votes", &[("SCRUTIN_LOG", "elsewhere")]), "votes, 2 partitions");

    // An explicit value that contradicts the log is an error; a default is not.
    let message = place.fails("setup --no-election --partitions 7", 4);
    assert!(message.contains("has 2 partitions, not 7"), "{message}");
    std::fs::remove_file(place.path("scrutin.toml")).unwrap();
    assert_eq!(setup("--data-dir of-file", &[]), "of-file/log, 2 partitions");

    // The counter's name, taken from an error message.
    let counter = |line: &str, environment: &[(&str, &str)]| {
        let message = run_with(&place, &format!("results {line}"), environment).fails(4);
        message.split('`').nth(1).unwrap().to_owned()
    };
    assert_eq!(counter("", &[]), "native");
    place.write("scrutin.toml", "counter = \"of-file\"\n");
    assert_eq!(counter("", &[]), "of-file");
    assert_eq!(counter("", &environment), "of-env");
    assert_eq!(counter("--counter of-flag", &environment), "of-flag");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_database_addresses_come_from_the_settings() {
    let kit = Kit::new().await;
    let other = Kit::empty().await;
    let place = Place::of(&kit);
    // With no address in the environment, the one in the file is used.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (of_file, of_flag) = (free(), free());
    place.write("scrutin.toml", format!("listen = \"{of_file}\"\ndatabase-url = \"{}\"\n", other.url()));
    let mut command = place.command("serve");
    command.env_remove("SCRUTIN_LISTEN");
    let serve = Running::start(command);
    assert_eq!(serve.page().address(), of_file.to_string());
    serve.interrupted().ok();
    let serve = place.start(&format!("serve --listen {of_flag}"));
    assert_eq!(serve.page().address(), of_flag.to_string());
    serve.interrupted().ok();

    let database = |line: &str, environment: &[(&str, &str)]| {
        let out = run_with(&place, &format!("setup --no-election {line}"), environment).ok();
        let line = out.lines().find(|line| line.starts_with("postgresql")).unwrap();
        line.split(['/', ',']).find(|part| part.starts_with("scrutin_test_")).unwrap().to_owned()
    };
    let name = |kit: &Kit| kit.url().rsplit('/').next().unwrap().to_owned();
    assert_eq!(database("", &[]), name(&kit), "DATABASE_URL beats the file");
    assert_eq!(database("", &[("DATABASE_URL", "")]), name(&other), "an empty DATABASE_URL counts as unset");
    assert_eq!(database("", &[("SCRUTIN_DATABASE_URL", other.url())]), name(&other));
    assert_eq!(database(&format!("--database-url {}", kit.url()), &[("DATABASE_URL", other.url())]), name(&kit));
}

#[test]
fn a_wrong_setting_exits_with_3_and_says_where() {
    let place = Place::bare();
    for (file, words) in [
        (
            "counter = \"a\"\n\n# nothing\ndata_dir = \"x\"\n",
            "scrutin: scrutin.toml, line 4: unknown field `data_dir`, expected one of `data-dir`, `log`, ",
        ),
        (
            "counter = \"a\"\nworkers = \"two\"\n",
            "scrutin: scrutin.toml, line 2: invalid type: string \"two\", expected ",
        ),
        ("counter = \"a\"\nlisten = \n", "scrutin: scrutin.toml, line 2: "),
        ("listen = \"localhost\"\n", "scrutin: scrutin.toml, line 1: invalid socket address"),
        ("counter = \" \"\n", "scrutin: scrutin.toml: `counter`: "),
        ("log = \"http://host\"\n", "scrutin: scrutin.toml: `log`: found `http://host`: expected kafka://host:port["),
        ("path-prefix = \"night\"\n", "scrutin: scrutin.toml: `path-prefix`: found `night`, expected a path like"),
        ("requests-per-second = -1\n", "scrutin: scrutin.toml, line 1: invalid value"),
        ("log-level = \"loud\"\n", "scrutin: scrutin.toml: `log-level`: found `loud`, expected off, error, "),
    ] {
        place.write("scrutin.toml", file);
        let message = place.fails("status", 3);
        assert!(message.starts_with(words), "{message}");
    }
    std::fs::remove_file(place.path("scrutin.toml")).unwrap();
    for (line, words) in [
        ("status --config none.toml", "scrutin: cannot read none.toml: No such file"),
        ("status --log-level loud", "scrutin: --log-level or SCRUTIN_LOG_LEVEL: found `loud`, expected off, error, "),
        (
            "status --log kafka://",
            "scrutin: --log or SCRUTIN_LOG: found `kafka://`: `` names no host; expected kafka://",
        ),
        ("setup --counter=", "scrutin: --counter or SCRUTIN_COUNTER: is empty; expected a code"),
    ] {
        let message = place.fails(line, 3);
        assert!(message.starts_with(words), "{message}");
    }
    let message = place.fails("setup --workers 0", 2);
    assert!(message.contains("--workers"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_under_the_path_prefix() {
    let kit = Kit::new().await;
    let place = Place::of(&kit);
    place.write("scrutin.toml", "path-prefix = \"/of-file\"\nbehind-proxy = true\nrequests-per-second = 5\n");
    let prefix = |line: &str, environment: &[(&str, &str)]| {
        let mut command = place.command(line);
        command.envs(environment.iter().copied());
        let serve = Running::start(command);
        let line = serve.says("The page is at http://localhost:");
        serve.interrupted().ok();
        line.rsplit_once(|c: char| c.is_ascii_digit()).unwrap().1.to_owned()
    };
    assert_eq!(prefix("serve", &[]), "/of-file/");
    assert_eq!(prefix("serve", &[("SCRUTIN_PATH_PREFIX", "/of-env/")]), "/of-env/");
    let line = "serve --behind-proxy --requests-per-second 0 --path-prefix=/";
    assert_eq!(prefix(line, &[("SCRUTIN_BEHIND_PROXY", "false"), ("SCRUTIN_PATH_PREFIX", "/of-env")]), "");
}

#[test]
fn the_help_lists_commands_and_exit_codes() {
    let place = Place::bare();
    let help = place.ok("--help");
    let commands = ["demo", "setup", "simulate", "replay", "count", "serve", "results", "status", "rejected", "audit"];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let own = place.ok(&format!("{command} --help"));
        assert!(own.contains("Usage: scrutin") && own.contains("--data-dir"), "{own}");
        assert_eq!(own, place.ok(&format!("help {command}")));
    }
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "130  "] {
        assert!(help.contains(&format!("\n{code}")), "{code}: {help}");
    }
    assert!(place.ok("--version").starts_with("scrutin "));
}
