//! The published schema of a vote against the parser: both accept the same votes.
//!
//! A schema describes a JSON value, not its text. It cannot say that a field occurs only once, that a message has at
//! most 4096 bytes and is UTF-8 without a byte order mark, or how deep an ignored field may be nested. It expresses the
//! days of a month by `format`, which a validator may treat as an annotation.

use boon::{Compiler, SchemaIndex, Schemas};
use scrutin_contract::vote::{VALUE_BYTES_MAX, Vote};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../schema/vote.v1.schema.json")).expect("the schema is JSON")
}

struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Validator {
    /// Treats `format` as an assertion or as an annotation. Rejects a schema that is invalid by its own `$schema`.
    fn new(with_formats: bool) -> Validator {
        const PLACE: &str = "urn:scrutin:vote:1";
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        if with_formats {
            compiler.enable_format_assertions();
        }
        compiler.add_resource(PLACE, schema()).expect("the schema is readable");
        let index = compiler.compile(PLACE, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Validator { schemas, index }
    }

    fn is_valid(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }
}

fn vote() -> Value {
    json!({
        "election": "pres-2027",
        "voter": "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0",
        "region": "75",
        "choice": "C03",
        "channel": "booth",
        "cast_at": "2027-04-11T08:31:12.345Z",
    })
}

/// The vote with one field changed or removed.
fn with(field: &str, value: Option<Value>) -> Value {
    let mut vote = vote();
    let fields = vote.as_object_mut().expect("a vote is an object");
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    vote
}

fn parses(text: &str) -> bool {
    let verdict = Vote::parse(text.as_bytes());
    assert_eq!(verdict, Vote::parse_any(text.as_bytes()), "{text}");
    verdict.is_ok()
}

#[test]
fn the_schema_is_a_schema() {
    let schema = schema();
    Validator::new(true);
    let required: Vec<&str> = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(required.len(), properties.len(), "every described field is required");
    assert!(required.iter().all(|field| properties.contains_key(*field)));
    let mut written = Vec::new();
    Vote::parse(vote().to_string().as_bytes()).unwrap().write(&mut written);
    let written: Value = serde_json::from_slice(&written).unwrap();
    let fields: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(fields.iter().all(|field| required.contains(field)) && fields.len() == required.len(), "{fields:?}");
}

#[test]
fn its_examples_are_votes() {
    let (schema, validator) = (schema(), Validator::new(true));
    for (field, about) in schema["properties"].as_object().unwrap() {
        let examples = about["examples"].as_array().unwrap_or_else(|| panic!("{field} has examples"));
        assert!(!examples.is_empty(), "{field} has examples");
        for example in examples {
            let vote = with(field, Some(example.clone()));
            assert!(validator.is_valid(&vote) && parses(&vote.to_string()), "{field} {example}");
        }
    }
}

#[test]
fn the_schema_and_the_parser_say_the_same() {
    let strict = Validator::new(true);
    let lax = Validator::new(false);
    let mut cases = vec![
        (true, vote()),
        (true, with("note", Some(json!({"a": [1, null]})))),
        (true, with("Region", Some(json!(7)))),
        (false, json!([])),
        (false, json!("vote")),
        (false, json!(null)),
        (false, json!({})),
        (false, json!([vote()])),
    ];
    for field in ["election", "voter", "region", "choice", "channel", "cast_at"] {
        cases.push((false, with(field, None)));
        for other in [json!(null), json!(75), json!(true), json!([]), json!({}), json!(["75"])] {
            cases.push((false, with(field, Some(other))));
        }
        let is_code = !["voter", "cast_at"].contains(&field);
        for text in ["", " ", "é", "\u{1F600}", "a\"b", "a\\b", "\n", "\u{0}", "C03 ", "BLANK", "null"] {
            cases.push((is_code, with(field, Some(json!(text)))));
        }
    }
    for (is_vote, voter) in [
        (true, "00000000-0000-0000-0000-000000000000"),
        (true, "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        (false, "6F1D2C3B-4A59-4687-9786-A5B4C3D2E1F0"),
        (false, "6f1d2c3b4a5946879786a5b4c3d2e1f0"),
        (false, "{6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0}"),
        (false, "urn:uuid:6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0"),
        (false, "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f"),
        (false, "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f00"),
        (false, "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1g0"),
        (false, "6f1d2c3b-4a594-687-9786-a5b4c3d2e1f0"),
        (false, "6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0\n"),
        (false, " 6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0"),
        (false, "６f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0"),
    ] {
        cases.push((is_vote, with("voter", Some(json!(voter)))));
    }
    for (is_vote, cast_at) in [
        (true, "0000-01-01T00:00:00.000Z"),
        (true, "9999-12-31T23:59:59.999Z"),
        (true, "2024-02-29T12:00:00.000Z"),
        (true, "2000-02-29T12:00:00.000Z"),
        (false, "2027-04-11T08:31:12Z"),
        (false, "2027-04-11T08:31:12.34Z"),
        (false, "2027-04-11T08:31:12.3456Z"),
        (false, "2027-04-11T08:31:12,345Z"),
        (false, "2027-04-11T08:31:12.345z"),
        (false, "2027-04-11t08:31:12.345Z"),
        (false, "2027-04-11 08:31:12.345Z"),
        (false, "2027-04-11T08:31:12.345+00:00"),
        (false, "2027-04-11T08:31:12.345-00:00"),
        (false, "2027-04-11T08:31:12.345Z\n"),
        (false, "2027-04-11T24:00:00.000Z"),
        (false, "2027-04-11T08:60:12.345Z"),
        (false, "2027-04-11T08:31:60.345Z"),
        (false, "2016-12-31T23:59:60.000Z"),
        (false, "2027-13-11T08:31:12.345Z"),
        (false, "2027-00-11T08:31:12.345Z"),
        (false, "2027-04-00T08:31:12.345Z"),
        (false, "2027-04-32T08:31:12.345Z"),
        (false, "12027-04-11T08:31:12.345Z"),
        (false, "-027-04-11T08:31:12.345Z"),
        (false, "٢٠٢٧-04-11T08:31:12.345Z"),
        (false, "1807435872345"),
    ] {
        cases.push((is_vote, with("cast_at", Some(json!(cast_at)))));
    }
    for (is_vote, value) in cases {
        assert_eq!(parses(&value.to_string()), is_vote, "the parser on {value}");
        assert_eq!(strict.is_valid(&value), is_vote, "the schema on {value}");
        assert_eq!(lax.is_valid(&value), is_vote, "the schema without formats on {value}");
    }
}

#[test]
fn impossible_dates_are_rejected_by_format() {
    let (strict, lax) = (Validator::new(true), Validator::new(false));
    for day in ["2027-02-29", "1900-02-29", "2100-02-29", "2027-02-30", "2027-04-31", "2027-06-31", "2027-11-31"] {
        let vote = with("cast_at", Some(json!(format!("{day}T12:00:00.000Z"))));
        assert!(!parses(&vote.to_string()) && !strict.is_valid(&vote), "{day}");
        assert!(lax.is_valid(&vote), "{day}: a validator without formats accepts it");
    }
}

#[test]
fn votes_that_only_the_parser_can_reject() {
    let strict = Validator::new(true);
    let text = vote().to_string();
    let only_the_parser = [
        ("a field twice", text.replacen('{', r#"{"region":"75","#, 1)),
        ("a field twice, once with an escape", text.replacen('{', r#"{"\u0072egion":"75","#, 1)),
        ("4097 bytes", format!("{}{text}", " ".repeat(VALUE_BYTES_MAX + 1 - text.len()))),
    ];
    for (name, text) in only_the_parser {
        let value: Value = serde_json::from_str(&text).expect(name);
        assert!(strict.is_valid(&value), "{name}");
        assert!(!parses(&text), "{name}");
    }
}
