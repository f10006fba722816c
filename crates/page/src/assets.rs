//! The page, its widgets for other sites, and the libraries they use, all compiled into the program.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;

use super::App;
use super::answer::Body;

struct Asset {
    path: &'static str,
    file: &'static str,
    text: &'static str,
}

impl Asset {
    /// The media type, by file extension; licences have none.
    fn kind(&self) -> &'static str {
        match self.file.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

macro_rules! page {
    ($path:literal, $file:literal) => {
        Asset { path: $path, file: $file, text: include_str!(concat!("assets/", $file)) }
    };
}

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        [$(Asset { path: concat!("/assets/", $file), file: $file, text: include_str!(concat!("assets/", $file)) }),*]
    };
}

static PAGES: [Asset; 3] =
    [page!("/", "index.html"), page!("/embed/bars", "embed.html"), page!("/embed/map", "embed.html")];

static FILES: [Asset; 57] = files![
    "announce.js",
    "chart.js",
    "color.js",
    "css/base.css",
    "css/embed.css",
    "css/night.css",
    "css/operator.css",
    "css/projector.css",
    "dom.js",
    "election.js",
    "embed.js",
    "figure.js",
    "figures.js",
    "format.js",
    "frame.js",
    "i18n.js",
    "icon.svg",
    "lang/en.js",
    "lang/fr.js",
    "main.js",
    "night/bars.js",
    "night/feed.js",
    "night/hero.js",
    "night/map.js",
    "night/night.js",
    "night/region.js",
    "night/scale.js",
    "night/table.js",
    "night/tiles.js",
    "night/timeline.js",
    "night/words.js",
    "patch.js",
    "pipeline/charts.js",
    "pipeline/pipeline.js",
    "pipeline/recent.js",
    "root.js",
    "safely.js",
    "schedule.js",
    "state.js",
    "theme.js",
    "trust/partitions.js",
    "trust/proof.js",
    "trust/rejections.js",
    "trust/trust.js",
    "url.js",
    "vendor/licences.html",
    "vendor/lit-html/LICENSE",
    "vendor/lit-html/async-directive.js",
    "vendor/lit-html/directive-helpers.js",
    "vendor/lit-html/directive.js",
    "vendor/lit-html/directives/guard.js",
    "vendor/lit-html/directives/live.js",
    "vendor/lit-html/directives/repeat.js",
    "vendor/lit-html/lit-html.js",
    "vendor/uplot/LICENSE",
    "vendor/uplot/uPlot.iife.min.js",
    "vendor/uplot/uPlot.min.css",
];

/// The body of each file, with its ETag and, once requested, its gzip form.
static BODIES: LazyLock<Vec<(&str, Body)>> = LazyLock::new(|| {
    PAGES.iter().chain(&FILES).map(|asset| (asset.path, Body::fixed(asset.text, asset.kind()))).collect()
});

pub(super) fn routes() -> Router<Arc<App>> {
    BODIES.iter().fold(Router::new(), |router, (path, body)| {
        // Browsers cache the files but revalidate each time; only changed files are sent again.
        let send = async move |headers: HeaderMap| body.answer(&headers, "no-cache").await;
        router.route(path, get(send))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets");
        let mut there = BTreeSet::new();
        walk(&root, &root, &mut there);
        let held: BTreeSet<String> = PAGES.iter().chain(&FILES).map(|asset| asset.file.to_owned()).collect();
        assert_eq!(held, there);
    }
}
