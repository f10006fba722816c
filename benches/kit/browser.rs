//! Loads a page in a real Chromium, through chromedriver.

use std::io::BufRead;
use std::process::{Child, Command, Stdio};

use fantoccini::ClientBuilder;
use serde_json::{Value, json};

/// A chromedriver, killed on drop together with its browsers.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Loads a page with an empty cache until it shows `counted` votes. Returns times in milliseconds and sizes in bytes.
pub async fn load(address: &str, counted: u64) -> Value {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("start chromedriver; `tools/setup` installs it");
    let mut said = std::io::BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let _driver = Driver(child);
    let port = loop {
        let line = said.next().expect("chromedriver prints its port").expect("read chromedriver's output");
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            break port.trim().trim_end_matches('.').to_owned();
        }
    };
    let mut args = vec!["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--window-size=1440,1000"];
    if nix::unistd::geteuid().is_root() {
        args.push("--no-sandbox");
    }
    let Value::Object(wanted) = json!({ "goog:chromeOptions": { "args": args }, "timeouts": { "script": 60_000 } })
    else {
        unreachable!("it is an object")
    };
    let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
    let driver = format!("http://127.0.0.1:{port}");
    let client = builder.capabilities(wanted).connect(&driver).await.expect("start Chromium");
    client.goto(address).await.expect("load the page");
    let script = "
        const [counted, done] = arguments;
        const look = () => {
          const shown = document.getElementById('counted')?.dataset.value;
          if (shown !== String(counted)) return requestAnimationFrame(look);
          const shown_at = performance.now();
          const files = performance.getEntriesByType('resource').filter((entry) => !entry.name.includes('/events'));
          const page = performance.getEntriesByType('navigation')[0];
          const sum = (field) => files.reduce((sum, entry) => sum + entry[field], page[field]);
          const paint = performance.getEntriesByName('first-contentful-paint')[0];
          done({ first_contentful_paint_ms: paint.startTime, exact_figures_ms: shown_at, files: files.length + 1,
                 transferred_bytes: sum('transferSize'), decoded_bytes: sum('decodedBodySize') });
        };
        look();";
    let loaded = client.execute_async(script, vec![json!(counted)]).await.expect("the page shows the count");
    client.close().await.expect("close the browser");
    loaded
}
