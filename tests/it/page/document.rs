//! The API description and the server match: everything in one is in the other.

use std::collections::BTreeSet;

use boon::{Compiler, Schemas};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Page, kit_with_votes};

/// The published document, read strictly: undescribed fields are errors.
pub struct Document(Value);

impl Document {
    pub fn read() -> Document {
        let mut document = serde_json::from_str(include_str!("../../../schema/api.v1.openapi.json")).unwrap();
        for_each_object(&mut document, &mut |object| {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".into(), false.into());
            }
        });
        Document(document)
    }

    /// Panics unless the value matches the schema at `pointer`, such as `/components/schemas/Results`.
    pub fn check(&self, pointer: &str, value: &Value) {
        const PLACE: &str = "urn:scrutin:api:1";
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(PLACE, self.0.clone()).unwrap();
        let index = compiler.compile(&format!("{PLACE}#{pointer}"), &mut schemas);
        let index = index.unwrap_or_else(|error| panic!("{pointer}: {error:#}"));
        if let Err(error) = schemas.validate(value, index) {
            panic!("{pointer}: {error:#}\n{value:#}");
        }
    }

    /// The value at a pointer, following a reference.
    fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.strip_prefix('#').unwrap()).expect(reference),
            None => value,
        }
    }

    fn operations(&self) -> impl Iterator<Item = (&str, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        paths.map(|(path, item)| {
            assert_eq!(item.as_object().unwrap().len(), 1, "{path}: only GET is described");
            (path.as_str(), &item["get"])
        })
    }

    /// The only media type of a response.
    fn kind<'a>(&'a self, operation: &'a Value, status: &str) -> &'a str {
        let content = self.at(&operation["responses"][status])["content"].as_object().expect(status);
        assert_eq!(content.len(), 1);
        content.keys().next().unwrap()
    }

    fn check_answer(&self, path: &str, status: u16, value: &Value) {
        let responses = &self.0["paths"][path]["get"]["responses"];
        let (_, content) =
            self.at(&responses[status.to_string()])["content"].as_object().unwrap().iter().next().unwrap();
        let reference = content["schema"]["$ref"].as_str().unwrap_or_else(|| panic!("{path} {status} has no schema"));
        self.check(reference.strip_prefix('#').unwrap(), value);
    }
}

fn for_each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|value| for_each_object(value, change));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| for_each_object(value, change)),
        _ => {}
    }
}

/// SQL for tests that check the schemas: it fills every field of every row.
const MORE: &str = "
    UPDATE region SET lat = 48.8, lon = 2.3 WHERE region = 'N';
    INSERT INTO counter SELECT 'twin', elections, log, partitions FROM counter;
    INSERT INTO position (counter, partition, first_offset, next_offset, gaps, counted, rejected, end_offset)
         SELECT 'twin', partition, first_offset, next_offset, gaps, counted, rejected, end_offset FROM position;
    INSERT INTO batch VALUES ('native', now(), 0, 0, 0, 2, NULL, NULL);";

#[tokio::test]
async fn every_response_matches_its_description() {
    let kit = kit_with_votes().await;
    kit.owner().await.batch_execute(MORE).await.unwrap();
    let page = Page::start(kit.db()).await;
    let document = Document::read();
    let mut checked = 0;
    for (path, operation) in document.operations() {
        let kind = document.kind(operation, "200");
        if kind == "text/event-stream" {
            continue;
        }
        let place = path.replace("{region}", "N");
        let answer = page.request("GET", &place, &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let found = answer.header("content-type").unwrap().split(';').next().unwrap();
        assert_eq!(found, kind, "{path}");
        if kind != "application/json" {
            assert!(!answer.body.is_empty(), "{path}");
            continue;
        }
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        if path != "/api/v1/openapi.json" {
            document.check_answer(path, 200, &value);
        }
        // The same for a counter that has counted nothing, for a page of regions, and for errors found without the
        // database.
        let takes = |name: &str| {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            parameters.any(|parameter| document.at(parameter)["name"] == name)
        };
        if takes("counter") {
            document.check_answer(path, 200, &page.ok(&format!("{place}?counter=other")).await);
            let (status, body) = page.json(&format!("{place}?election=other")).await;
            assert_eq!(status, 404, "{path}");
            document.check_answer(path, 404, &body);
        }
        if takes("limit") {
            document.check_answer(path, 200, &page.ok(&format!("{place}?limit=1")).await);
        }
        if path.starts_with("/api/v1/") && path != "/api/v1/openapi.json" {
            let (status, body) = page.json(&format!("{place}?colour=red")).await;
            assert_eq!(status, 400, "{path}");
            document.check_answer(path, 400, &body);
        }
        checked += 1;
    }
    assert!(checked >= 18, "{checked}");
    page.stop().await;
}

#[tokio::test]
async fn the_stream_matches_its_description() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let document = Document::read();
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").unwrap();
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert!(!head.contains("content-encoding"), "{head}");
    let operation = &document.0["paths"]["/api/v1/events"]["get"];
    for event in ["state", "change"] {
        assert!(document.at(&operation["x-events"][event])["type"] == "object", "{event}");
        assert!(operation["description"].as_str().unwrap().contains(&format!("`{event}`")), "{event}");
    }
    drop(stream);
    page.stop().await;
}

#[tokio::test]
async fn the_document_is_served_and_describes_every_route() {
    let kit = kit_with_votes().await;
    let page = Page::start(kit.db()).await;
    let text = include_str!("../../../schema/api.v1.openapi.json");
    let served = page.request("GET", "/api/v1/openapi.json", &[]).await;
    assert_eq!(served.text(), text);

    let document = Document::read();
    let described: BTreeSet<String> = document.operations().map(|(path, _)| path.to_owned()).collect();
    let source = include_str!("../../../crates/page/src/api.rs");
    let routed: BTreeSet<String> =
        source
            .split(".route(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .map(|path| {
                if ["/metrics", "/healthz", "/readyz"].contains(&path) { path.into() } else { format!("/api/v1{path}") }
            })
            .collect();
    assert_eq!(described, routed);

    // Every described component is used.
    let references: BTreeSet<&str> =
        text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.iter().all(|pointer| document.0.pointer(pointer).is_some()), "{references:?}");
    for (kind, parts) in document.0["components"].as_object().unwrap() {
        for name in parts.as_object().unwrap().keys() {
            let pointer = format!("/components/{kind}/{name}");
            assert!(references.contains(pointer.as_str()), "{pointer} is not used");
        }
    }
    page.stop().await;
}

/// Proves that the check above detects undescribed fields.
#[test]
#[should_panic(expected = "additional")]
fn an_undescribed_field_is_detected() {
    Document::read().check("/components/schemas/Error", &json!({"error": "none", "more": 1}));
}
