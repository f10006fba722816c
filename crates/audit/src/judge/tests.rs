//! Tests the audit's implementation of the contract against the engine's.

use proptest::prelude::*;
use scrutin_contract::partitioner::partition_of;
use scrutin_contract::vote;

use super::*;

const VOTE: &str = r#"{"election":"e","voter":"6f1d0c52-8b1a-4c39-9c53-0a4c4d1c2e3f","region":"75","choice":"C03","channel":"booth","cast_at":"2027-04-11T08:31:12.345Z"}"#;

/// Checks that both implementations agree on a message; returns whether it is valid.
fn agree(message: &[u8]) -> Result<bool, TestCaseError> {
    let ours = read(message);
    let theirs = vote::Vote::parse_any(message).ok();
    let text = String::from_utf8_lossy(message);
    prop_assert_eq!(ours.is_some(), theirs.is_some(), "{}", text);
    if let (Some(ours), Some(theirs)) = (&ours, theirs) {
        prop_assert_eq!(&ours.election, &theirs.election);
        prop_assert_eq!(ours.voter, theirs.voter.0);
        prop_assert_eq!(&ours.region, &theirs.region);
        prop_assert_eq!(&ours.choice, &theirs.choice);
        prop_assert_eq!(&ours.channel, &theirs.channel);
        prop_assert_eq!(ours.cast_at_ms, theirs.cast_at_ms);
    }
    Ok(ours.is_some())
}

#[test]
fn reads_what_the_contract_allows_and_nothing_else() {
    let of = |from: &str, to: &str| {
        let changed = VOTE.replace(from, to);
        assert_ne!(changed, VOTE, "{from}");
        changed
    };
    let good = [
        VOTE.to_owned(),
        format!(" \n\t\r{VOTE} \n"),
        of("\"region\":\"75\"", "\"region\" : \"\\u0037\\u0035\""),
        of("{\"election\"", "{\"more\":{\"deep\":[1e999,null,{}]},\"more\":2,\"election\""),
        of("2027-04-11T08:31:12.345Z", "0000-02-29T00:00:00.000Z"),
        of("2027-04-11T08:31:12.345Z", "9999-12-31T23:59:59.999Z"),
        of("C03", ""),
        format!("{VOTE}{}", " ".repeat(4096 - VOTE.len())),
    ];
    for message in good {
        assert!(agree(message.as_bytes()).unwrap(), "{message}");
    }
    let mut invalid = of("{\"election\"", "{\"more\":\"#\",\"election\"").into_bytes();
    let place = invalid.iter().position(|byte| *byte == b'#').unwrap();
    invalid[place] = 0xff;
    let mut bad: Vec<Vec<u8>> = vec![invalid, b"\xef\xbb\xbf".iter().copied().chain(VOTE.bytes()).collect()];
    let texts = [
        String::new(),
        "null".into(),
        format!("[{VOTE}]"),
        format!("{VOTE}{VOTE}"),
        VOTE[..VOTE.len() - 1].to_owned(),
        r#"["e","6f1d0c52-8b1a-4c39-9c53-0a4c4d1c2e3f","75","C03","booth","2027-04-11T08:31:12.345Z"]"#.into(),
        of("{\"election\"", "{\"region\":\"75\",\"election\""),
        of("\"75\"", "75"),
        of("\"75\"", "null"),
        of(",\"channel\":\"booth\"", ""),
        of("6f1d0c52", "6F1D0C52"),
        of("6f1d0c52", "+f1d0c52"),
        of("6f1d0c52-8b1a", "6f1d0c528-b1a"),
        of("0a4c4d1c2e3f", "0a4c4d1c2e3f-"),
        of("2027-04-11T", "2027-02-29T"),
        of("08:31:12", "08:31:60"),
        of("08:31:12", "24:00:00"),
        of("12.345Z", "12.345z"),
        of("12.345Z", "12Z"),
        of("12.345Z", "12.345+00:00"),
        of("C03", "\\ud800"),
        format!("{VOTE}{}", " ".repeat(4097 - VOTE.len())),
    ];
    bad.extend(texts.into_iter().map(String::into_bytes));
    for message in bad {
        assert!(!agree(&message).unwrap(), "{}", String::from_utf8_lossy(&message));
    }
}

#[test]
fn every_day_of_four_centuries_is_read() {
    // 146,097 days are one full cycle of the Gregorian calendar.
    for day in 0..146_097_i64 {
        let text = vote::format_millis(day * 86_400_000 + 12_345);
        assert_eq!(read_time(&text), Some(day * 86_400_000 + 12_345), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_readers_agree_on_damaged_votes(cuts in prop::collection::vec((0..VOTE.len(), any::<u8>(), 0..4_u8), 0..4)) {
        let mut message = VOTE.as_bytes().to_vec();
        for (place, byte, how) in cuts {
            let place = place.min(message.len().saturating_sub(1));
            match how {
                0 => message[place] = byte,
                1 => message.insert(place, byte),
                2 if message.len() > 1 => drop(message.remove(place)),
                _ => message[place] = b"\"\\{}[]:,0a-TZ "[byte as usize % 14],
            }
        }
        agree(&message)?;
    }

    #[test]
    fn both_partitioners_agree(key in ".{0,50}", partitions in 1..200_u32) {
        prop_assert_eq!(home_of(&key, partitions), partition_of(key.as_bytes(), partitions));
    }
}
