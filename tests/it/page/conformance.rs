//! The server against its own API description, checked by a program that knows nothing else: Schemathesis sends every
//! kind of request that the document allows, and kinds that it does not.

use std::path::Path;
use std::process::{Command, Stdio};

use scrutin_page::PageOptions;

use super::{Page, kit_with_votes};

#[tokio::test(flavor = "multi_thread")]
async fn no_response_deviates_from_the_document() {
    let kit = kit_with_votes().await;
    // The document's example region.
    let region = "INSERT INTO region (election, region, name, registered, place, ballot)
        VALUES ('mayor', '75', 'Paris', 100, 2, '{BLANK,NULL,A,B}');
        INSERT INTO votes_by_channel VALUES ('native', 'mayor', '75', 'A', 'booth', 1);";
    kit.owner().await.batch_execute(region).await.unwrap();
    let options = PageOptions { requests_per_second: 0, ..PageOptions::default() };
    let page = Page::start_with(kit.db(), options).await;
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/check-api"));
    command.arg(format!("http://{}", page.address)).stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("run tools/check-api");
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(done.status.success(), "tools/check-api: {}\n{said}", done.status);
    assert!(!said.contains("returned only"), "some operations never succeeded:\n{said}");
    page.stop().await;
}
