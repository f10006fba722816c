//! The results as CSV files for spreadsheets and programs.

use super::{Page, kit_with_votes};
use crate::run::Place;

#[tokio::test(flavor = "multi_thread")]
async fn csv_files_equal_the_output_of_the_command_line() {
    let kit = kit_with_votes().await;
    let awkward = "UPDATE choice SET name = '=1+1, \"A\"' WHERE choice = 'A'; UPDATE choice SET name = E'Bé\n;' WHERE choice = 'B'";
    kit.owner().await.batch_execute(awkward).await.unwrap();
    let page = Page::start(kit.db()).await;
    let place = Place::of(&kit);
    for (path, by, name) in
        [("results.csv", "choice", "results"), ("results/regions.csv", "region", "results-by-region")]
    {
        let file = page.request("GET", &format!("/api/v1/{path}"), &[]).await;
        assert_eq!(file.text(), place.ok(&format!("results --by {by} --format csv")), "{by}");
        assert!(file.text().contains("\"=1+1, \"\"A\"\"\""), "{}", file.text());
        assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
        let saved = file.header("content-disposition").unwrap();
        let time =
            saved.strip_prefix(&format!("attachment; filename=\"mayor-{name}-")).unwrap_or_else(|| panic!("{saved}"));
        let time = time.strip_suffix(".csv\"").unwrap_or_else(|| panic!("{saved}"));
        let pattern: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(pattern, "00000000T000000Z", "{saved}");
    }
    page.stop().await;
}

#[tokio::test]
async fn a_csv_file_without_votes_has_a_header() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let empty = page.request("GET", "/api/v1/results.csv?counter=other", &[]).await;
    assert_eq!((empty.status, empty.text()), (200, "choice,name,votes\n"));
    assert_eq!(page.json("/api/v1/results/regions.csv?election=other").await.0, 404);
    page.stop().await;
}
