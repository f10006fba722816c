//! A real headless Chromium, driven by chromedriver over WebDriver. One chromedriver per test process; one browser with
//! a fresh profile per test.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use crate::kit::guarded_by;
use crate::run::PATIENCE;

struct Driver {
    address: String,
    folder: PathBuf,
    _guard: ChildStdin,
}

fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        // A browser exits when the pipe to its driver closes.
        let stop = r#"pid=$(cat "$0/pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null"#;
        let (folder, guard) = guarded_by(stop, &[]);
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[expect(clippy::zombie_processes, reason = "the guard ends it")]
        let mut child = command.process_group(0).spawn().expect("start chromedriver; `tools/setup` installs it");
        std::fs::write(folder.join("pid"), child.id().to_string()).expect("write down the driver's id");
        let mut said = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut all = String::new();
        let port = loop {
            let mut line = String::new();
            assert_ne!(
                said.read_line(&mut line).expect("read what chromedriver says"),
                0,
                "chromedriver ended:\n{all}"
            );
            all.push_str(&line);
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').parse::<u16>().expect("a port");
            }
        };
        // Keep draining its output.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Driver { address: format!("http://127.0.0.1:{port}"), folder, _guard: guard }
    })
}

/// The settings of a browser.
pub struct Look {
    pub width: u32,
    pub height: u32,
    /// The language that the browser requests, such as `fr-FR`.
    pub language: &'static str,
    pub dark: bool,
}

pub const DESK: Look = Look { width: 1440, height: 1000, language: "en-GB", dark: false };
pub const PHONE: Look = Look { width: 390, height: 844, ..DESK };

pub struct Browser {
    client: Client,
}

impl Browser {
    pub async fn start(look: &Look) -> Browser {
        let driver = driver();
        let profile =
            tempfile::Builder::new().prefix("profile-").tempdir_in(&driver.folder).expect("make a folder").keep();
        let mut args = vec![
            "--headless=new".to_owned(),
            "--remote-debugging-pipe".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            // Disable Chromium's own requests to the internet.
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--lang={}", look.language),
            format!("--accept-lang={}", look.language),
        ];
        if nix::unistd::geteuid().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        if look.dark {
            args.push("--force-dark-mode".to_owned());
        }
        let wanted = json!({
            "goog:chromeOptions": { "args": args, "prefs": { "intl.accept_languages": look.language } },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": PATIENCE.as_millis() as u64 },
        });
        let Value::Object(wanted) = wanted else { unreachable!("it is an object") };
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(wanted).connect(&driver.address).await;
        let browser = Browser { client: client.unwrap_or_else(|error| panic!("start Chromium: {error}")) };
        browser.resize(look.width, look.height).await;
        browser
    }

    /// Sets the size of the viewport, excluding the window's frame.
    pub async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn go(&self, address: &str) {
        self.client.goto(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }

    pub async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    pub async fn address(&self) -> String {
        self.client.current_url().await.unwrap().to_string()
    }

    /// Evaluates an expression in the page.
    pub async fn get(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.client.execute(&script, vec![]).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is truthy in the page (not null, 0 or an empty string); returns its value.
    pub async fn until(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[0];
             const look = () => {{
                 let found;
                 try {{ found = ({expression}); }} catch {{ }}
                 if (found) done(found); else setTimeout(look, 20);
             }};
             look();"
        );
        let found = self.client.execute_async(&script, vec![]).await;
        match found {
            Ok(found) => found,
            Err(error) => {
                let text = self.get("document.body.innerText").await;
                panic!("`{expression}` did not become true: {error}\nthe page says: {text}");
            }
        }
    }

    /// Runs statements that call `done(…)`.
    pub async fn run(&self, statements: &str) -> Value {
        let script = format!("const done = arguments[0]; {statements}");
        self.client.execute_async(&script, vec![]).await.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Presses a key at the current focus.
    pub async fn press(&self, key: char) {
        let keys = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key });
        self.client.perform_actions(keys).await.unwrap();
    }

    pub async fn click(&self, selector: &str) {
        self.until(&format!("document.querySelector({})", json!(selector))).await;
        let found =
            self.client.find(Locator::Css(selector)).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        found.click().await.unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    pub async fn fill(&self, selector: &str, text: &str) {
        let found =
            self.client.find(Locator::Css(selector)).await.unwrap_or_else(|error| panic!("{selector}: {error}"));
        found.send_keys(text).await.unwrap();
    }

    /// All console messages since the last call: level and text.
    pub async fn console(&self) -> Vec<(String, String)> {
        let said = self.log("browser").await;
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        said.iter().map(|line| (text(line, "level"), text(line, "message"))).collect()
    }

    /// The addresses of all requests since the last call, except for the browser's built-in pages.
    pub async fn requests(&self) -> Vec<String> {
        let mut asked = Vec::new();
        for line in self.log("performance").await {
            let line: Value = serde_json::from_str(line["message"].as_str().unwrap_or("{}")).unwrap();
            if line["message"]["method"] == "Network.requestWillBeSent" {
                let url = line["message"]["params"]["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("chrome:") && !url.starts_with("data:") {
                    asked.push(url.to_owned());
                }
            }
        }
        asked
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.command("POST", "se/log", json!({ "type": kind })).await;
        log.as_array().cloned().unwrap_or_default()
    }

    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.command("POST", "goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    pub async fn enter_frame(&self, selector: &str) {
        let frame = self.client.find(Locator::Css(selector)).await.unwrap();
        frame.enter_frame().await.unwrap();
    }

    pub async fn leave_frame(&self) {
        self.client.clone().enter_parent_frame().await.unwrap();
    }

    pub async fn close(self) {
        self.client.close().await.unwrap();
    }

    async fn command(&self, method: &'static str, path: &'static str, body: Value) -> Value {
        let command = Extension { method, path, body };
        self.client.issue_cmd(command).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// A chromedriver command that is not part of WebDriver.
#[derive(Debug)]
struct Extension {
    method: &'static str,
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (self.method.parse().expect("a method"), Some(self.body.to_string()))
    }
}
