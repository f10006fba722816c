//! The fast parser against serde: the same verdict and the same vote on millions of inputs.

use std::borrow::Cow;

use fastrand::Rng;
use scrutin_contract::vote::{VALUE_BYTES_MAX, Vote, VoterId, parse_millis};

/// The number of inputs; `make fuzz` sets a larger one.
fn inputs() -> u64 {
    std::env::var("SCRUTIN_FUZZ_INPUTS").ok().map_or(3_000_000, |text| text.parse().expect("a number of inputs"))
}

#[test]
fn the_fast_parser_says_what_serde_says() {
    let seed = std::env::var("SCRUTIN_FUZZ_SEED").ok().map_or(1, |text| text.parse().expect("a seed"));
    let threads = 2;
    let (mut votes, mut malformed) = (0, 0);
    std::thread::scope(|scope| {
        let halves: Vec<_> = (0..threads).map(|n| scope.spawn(move || compare(seed + n, inputs() / threads))).collect();
        for half in halves {
            let (some_votes, some_malformed) = half.join().expect("no input causes a panic");
            votes += some_votes;
            malformed += some_malformed;
        }
    });
    println!("{votes} votes, {malformed} malformed");
    assert!(votes > inputs() / 10 && malformed > inputs() / 10, "too few inputs of one kind");
}

fn compare(seed: u64, inputs: u64) -> (u64, u64) {
    let mut rng = Rng::with_seed(seed);
    let (mut votes, mut malformed) = (0, 0);
    let mut input = Vec::new();
    for number in 0..inputs {
        make_input(&mut rng, &mut input);
        let (fast, slow) = (Vote::parse(&input), Vote::parse_any(&input));
        if fast != slow {
            panic!(
                "seed {seed}, input {number}: {fast:?} but serde says {slow:?} of {:?}",
                String::from_utf8_lossy(&input)
            );
        }
        match slow {
            Ok(_) => votes += 1,
            Err(_) => malformed += 1,
        }
    }
    (votes, malformed)
}

/// A vote in one of many spellings, usually damaged a little.
pub fn make_input(rng: &mut Rng, out: &mut Vec<u8>) {
    out.clear();
    if rng.u8(..) == 0 {
        let len = rng.usize(0..300);
        out.extend(std::iter::repeat_with(|| rng.u8(..)).take(len));
        return;
    }
    write_object(rng, out);
    for _ in 0..[0, 0, 0, 1, 2, 5][rng.usize(0..6)] {
        harm(rng, out);
    }
}

fn write_object(rng: &mut Rng, out: &mut Vec<u8>) {
    let mut fields: Vec<(&str, String)> = vec![
        ("election", pick(rng, &["pres-2027", "", "é", "a\\u00e9", "x\\\"y", "\\ud800", "p\u{7f}"])),
        ("voter", voter(rng)),
        ("region", pick(rng, &["75", "2A", "W07-P10", "Côte-d'Or", "\\n", "a/b", "\\/"])),
        ("choice", pick(rng, &["C03", "BLANK", "NULL", "emmanuel", "\u{1F600}", "\\uD83D\\uDE00"])),
        ("channel", pick(rng, &["booth", "online", "post", "\t", "\\t"])),
        ("cast_at", cast_at(rng)),
    ];
    if rng.u8(..4) == 0 {
        rng.shuffle(&mut fields);
    }
    if rng.u8(..16) == 0 {
        fields.remove(rng.usize(0..6));
    }
    if rng.u8(..16) == 0 {
        fields.insert(rng.usize(0..=fields.len()), fields[rng.usize(0..fields.len())].clone());
    }
    let space = ["", "", " ", "\n\t\r ", "\u{a0}", "\u{b}"];
    let gap = |rng: &mut Rng, out: &mut Vec<u8>| {
        let most = if rng.u8(..128) == 0 { 6 } else { 4 };
        out.extend_from_slice(space[rng.usize(0..most)].as_bytes());
    };
    gap(rng, out);
    out.push(b'{');
    for (place, (name, text)) in fields.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        gap(rng, out);
        if rng.u8(..16) == 0 {
            let extra = [
                "\"note\":1e999,",
                "\"note\":[{}, [null, true]],",
                "\"note\":\"\\ud800\",",
                "\"n\":-0,",
                "\"n\":01,",
                "\"n\":{\"election\":\"x\"},",
                "\"n\":123456789012345678901234567890,",
                "\"\":\"\",",
                "\"elect\\u0069on\":\"z\",",
            ];
            out.extend_from_slice(extra[rng.usize(0..extra.len())].as_bytes());
        }
        out.extend_from_slice(format!("\"{name}\"").as_bytes());
        gap(rng, out);
        out.push(b':');
        gap(rng, out);
        match rng.u8(..64) {
            0 => out.extend_from_slice(pick(rng, &["null", "true", "12", "[]", "{}", "1e5", "nul"]).as_bytes()),
            _ => out.extend_from_slice(format!("\"{text}\"").as_bytes()),
        }
        gap(rng, out);
    }
    out.push(b'}');
    gap(rng, out);
}

fn pick(rng: &mut Rng, options: &[&str]) -> String {
    // The plain ones come first and are the most frequent.
    let most = if rng.u8(..24) == 0 { options.len() } else { options.len().min(2) };
    options[rng.usize(0..most)].to_owned()
}

fn voter(rng: &mut Rng) -> String {
    let id = VoterId(if rng.u8(..32) == 0 { 0 } else { rng.u128(..) }).to_string();
    match rng.u8(..32) {
        0 => id.to_uppercase(),
        1 => id.replace('-', ""),
        2 => format!("{{{id}}}"),
        3 => id[1..].to_owned(),
        4 => id.replacen('-', "a", 1),
        5 => id.replacen(char::is_alphabetic, "g", 1),
        _ => id,
    }
}

fn cast_at(rng: &mut Rng) -> String {
    let mut number = |range: std::ops::RangeInclusive<u32>| rng.u32(range);
    let (year, month, day) = (number(0..=9999), number(0..=13), number(0..=32));
    let (hour, minute, second, milli) = (number(0..=24), number(0..=60), number(0..=60), number(0..=999));
    match rng.u8(..32) {
        0 => format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}Z"),
        1 => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
        2 => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}+00:00"),
        3..7 => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"),
        7 => ["2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29"][rng.usize(0..4)].to_owned() + "T00:00:00.000Z",
        _ => format!("2027-04-11T{:02}:{:02}:{:02}.{milli:03}Z", hour % 24, minute % 60, second % 60),
    }
}

fn harm(rng: &mut Rng, out: &mut Vec<u8>) {
    if out.is_empty() {
        return;
    }
    let place = rng.usize(0..out.len());
    match rng.u8(..8) {
        0 => out[place] ^= 1 << rng.u8(..8),
        1 => out[place] = rng.u8(..),
        2 => out.insert(place, [b'"', b'\\', b',', b'}', b' ', 0, 0x1f, 0x80, 0xff][rng.usize(0..9)]),
        3 => drop(out.remove(place)),
        4 => out.truncate(place),
        5 => {
            let piece = out[place..(place + rng.usize(0..40)).min(out.len())].to_vec();
            out.splice(place..place, piece);
        }
        6 => out.extend_from_slice([&b"}"[..], b" ", b"x", b"\xef\xbb\xbf", b"\0", b",{}"][rng.usize(0..6)]),
        _ => {
            let padding = vec![
                b' ';
                if rng.u8(..16) == 0 {
                    VALUE_BYTES_MAX - out.len().min(VALUE_BYTES_MAX) + rng.usize(0..3)
                } else {
                    1
                }
            ];
            out.splice(0..0, padding);
        }
    }
}

fn valid() -> String {
    let vote = Vote {
        election: Cow::Borrowed("pres-2027"),
        voter: VoterId(0x6f1d_2c3b_4a59_4687_9786_a5b4_c3d2_e1f0),
        region: Cow::Borrowed("75"),
        choice: Cow::Borrowed("C03"),
        channel: Cow::Borrowed("booth"),
        cast_at_ms: parse_millis(b"2027-04-11T08:31:12.345Z").unwrap(),
    };
    let mut out = Vec::new();
    vote.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_vote_is_written_as_the_contract_says() {
    assert_eq!(
        valid(),
        r#"{"election":"pres-2027","voter":"6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0","region":"75","choice":"C03","channel":"booth","cast_at":"2027-04-11T08:31:12.345Z"}"#
    );
}

/// What both parsers must reject as malformed, and what they must accept.
#[test]
fn the_edges_of_the_contract() {
    let plain = valid();
    let plain = Vote::parse_any(plain.as_bytes()).unwrap();
    for (name, value) in good() {
        assert_eq!(Vote::parse(&value), Ok(plain.clone()), "{name}");
        assert_eq!(Vote::parse_any(&value), Ok(plain.clone()), "{name}");
    }
    for (name, value) in bad() {
        assert!(Vote::parse(&value).is_err(), "{name}");
        assert!(Vote::parse_any(&value).is_err(), "{name}");
    }
}

/// One vote in many equivalent forms.
pub fn good() -> Vec<(&'static str, Vec<u8>)> {
    let vote = valid();
    let long = |len: usize| format!("{}{}", " ".repeat(len - vote.len()), vote).into_bytes();
    let mut deep = vote.clone().into_bytes();
    deep.splice(1..1, [b"\"x\":".to_vec(), vec![b'['; 500], vec![b']'; 500], b",".to_vec()].concat());
    vec![
        ("plain", vote.clone().into_bytes()),
        ("spaces", vote.replace(':', " : ").replace("2027-04-11T08 : 31 : 12", "2027-04-11T08:31:12").into_bytes()),
        ("4096 bytes", long(4096)),
        ("an unknown field", vote.replacen('{', r#"{"note":{"a":[1,2]},"#, 1).into_bytes()),
        ("500 arrays deep in an unknown field", deep),
        ("half a surrogate pair in an unknown field", vote.replacen('{', r#"{"note":"\ud800","#, 1).into_bytes()),
        ("half a surrogate pair in a name within one", vote.replacen('{', r#"{"x":{"\ud800":1},"#, 1).into_bytes()),
        ("an escape", vote.replace("booth", "b\\u006foth").into_bytes()),
        (
            "a huge number in an unknown field",
            vote.replacen('{', &format!("{{\"n\":1{},", "0".repeat(400)), 1).into_bytes(),
        ),
    ]
}

/// Values that are not votes.
pub fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let vote = valid();
    let long = |len: usize| format!("{}{}", " ".repeat(len - vote.len()), vote).into_bytes();
    vec![
        ("nothing", vec![]),
        ("4097 bytes", long(4097)),
        ("a megabyte", long(1 << 20)),
        ("noise", (0..=255).collect()),
        (
            "an array of the fields",
            br#"["pres-2027","6f1d2c3b-4a59-4687-9786-a5b4c3d2e1f0","75","C03","booth","2027-04-11T08:31:12.345Z"]"#
                .to_vec(),
        ),
        ("a duplicate field", vote.replacen('{', r#"{"region":"75","#, 1).into_bytes()),
        ("a duplicate by an escape", vote.replacen('{', r#"{"\u0072egion":"75","#, 1).into_bytes()),
        ("a number for a text", vote.replace("\"75\"", "75").into_bytes()),
        ("null for a text", vote.replace("\"75\"", "null").into_bytes()),
        ("a missing field", vote.replace(r#""region":"75","#, "").into_bytes()),
        ("bytes after the object", (vote.clone() + "x").into_bytes()),
        ("a second object", (vote.clone() + &vote).into_bytes()),
        ("a byte order mark", [b"\xef\xbb\xbf", vote.as_bytes()].concat()),
        ("a control character", vote.replace("booth", "bo\toth").into_bytes()),
        ("invalid UTF-8 in a field", [&vote.as_bytes()[..60], b"\xff", &vote.as_bytes()[60..]].concat()),
        ("invalid UTF-8 in an unknown field", [b"{\"x\":\"\xff\",", &vote.as_bytes()[1..]].concat()),
        ("half a surrogate pair in a field", vote.replace("\"75\"", r#""\ud800""#).into_bytes()),
        ("half a surrogate pair in a field's name", vote.replacen('{', r#"{"\udc00":1,"#, 1).into_bytes()),
        ("upper-case id", vote.replace("6f1d2c3b", "6F1D2C3B").into_bytes()),
        ("no such day", vote.replace("04-11T", "02-30T").into_bytes()),
        ("a leap second", vote.replace("08:31:12", "08:31:60").into_bytes()),
        ("another offset", vote.replace(".345Z", ".345+00:00").into_bytes()),
        ("no milliseconds", vote.replace(".345Z", "Z").into_bytes()),
    ]
}
