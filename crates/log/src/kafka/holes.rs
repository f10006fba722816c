//! Explains offsets without a record: they hold markers of transactions, or records of an aborted transaction.
//!
//! librdkafka silently skips both, just as it would skip records that it lost. So wherever it has delivered none, this
//! module reads the headers of the batches again, over its own connection. Only what the log itself says counts as an
//! explanation. Formats: Fetch, version 4, <https://kafka.apache.org/protocol>; record batches,
//! <https://kafka.apache.org/documentation/#recordbatch>.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

/// Timeout for a broker's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes to fetch at once. If the first batch is larger, a broker returns all of it.
const FETCH_BYTES: i32 = 1 << 20;
/// Limit on the size of a broker's answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

const HEADER_BYTES: usize = 61;
const IS_TRANSACTIONAL: i16 = 1 << 4;
const IS_CONTROL: i16 = 1 << 5;

/// The error is the reason, for a message.
type Result<T> = std::result::Result<T, String>;

/// What is known of the holes of a topic's partitions.
#[derive(Default)]
pub(super) struct Holes {
    /// By the broker's host and port.
    connections: BTreeMap<(String, u16), TcpStream>,
    known: BTreeMap<u32, Known>,
}

/// What the headers of a run of batches say.
#[derive(Debug, Default, PartialEq)]
struct Known {
    offsets: Range<u64>,
    /// Offsets that rightly have no record.
    empty: Vec<Range<u64>>,
}

impl Holes {
    /// Checks that the log has no records at these offsets. `leader` returns host and port of the broker that leads the
    /// partition now.
    pub fn explain(
        &mut self,
        topic: &str,
        partition: u32,
        hole: Range<u64>,
        leader: impl Fn() -> Result<(String, u16)>,
    ) -> Result<()> {
        let mut at = hole.start;
        while at < hole.end {
            let known = self.known.entry(partition).or_default();
            if let Some(empty) = known.empty.iter().find(|empty| empty.contains(&at)) {
                at = empty.end;
            } else if known.offsets.contains(&at) {
                return Err(format!("the log has a record at offset {at} that was not delivered"));
            } else {
                let address = leader()?;
                let found = self.read(&address, topic, partition, at);
                // The connection may be broken, so do not reuse it.
                let found = found.inspect_err(|_| drop(self.connections.remove(&address)))?;
                if !found.offsets.contains(&at) {
                    return Err(format!("the log has no batch at offset {at} and gives no reason"));
                }
                self.known.insert(partition, found);
            }
        }
        Ok(())
    }

    fn read(&mut self, address: &(String, u16), topic: &str, partition: u32, offset: u64) -> Result<Known> {
        let name = format!("{}:{}", address.0, address.1);
        let io = |error: std::io::Error| format!("{name}: {error}");
        if !self.connections.contains_key(address) {
            self.connections.insert(address.clone(), connect((&address.0, address.1)).map_err(io)?);
        }
        let connection = self.connections.get_mut(address).expect("just made");
        connection.write_all(&request(topic, partition, offset)).map_err(io)?;
        let mut size = [0; 4];
        connection.read_exact(&mut size).map_err(io)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > ANSWER_BYTES_MAX {
            return Err(format!("{name} sent an answer of {size} bytes"));
        }
        let mut answer = vec![0; size];
        connection.read_exact(&mut answer).map_err(io)?;
        known(&answer, offset).unwrap_or_else(|| Err(format!("{name} sent a truncated answer")))
    }
}

fn connect(address: (&str, u16)) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the host name has no address");
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Err(error) => last = error,
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
        }
    }
    Err(last)
}

/// A Fetch request for the committed records of one partition.
fn request(topic: &str, partition: u32, offset: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let text = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    // API key, API version, correlation id, client id.
    body.extend([&1_i16.to_be_bytes()[..], &4_i16.to_be_bytes(), &0_i32.to_be_bytes(), &text("scrutin")].concat());
    // Replica id (none), maximum wait, minimum and maximum bytes; then the isolation level: read committed.
    body.extend([-1_i32, 0, 1, FETCH_BYTES].map(i32::to_be_bytes).concat());
    body.push(1);
    // One topic, one partition.
    body.extend([&1_i32.to_be_bytes()[..], &text(topic), &1_i32.to_be_bytes()].concat());
    body.extend([&partition.to_be_bytes()[..], &offset.to_be_bytes(), &FETCH_BYTES.to_be_bytes()].concat());
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// What an answer says about the batches from an offset on. `None` if the answer is truncated.
fn known(answer: &[u8], offset: u64) -> Option<Result<Known>> {
    let mut rest = answer;
    // Correlation id, throttle time, number of topics, topic name, number of partitions, partition.
    take(&mut rest, 4 + 4 + 4)?;
    let name = int(take(&mut rest, 2)?);
    take(&mut rest, name as usize)?;
    take(&mut rest, 4 + 4)?;
    match int(take(&mut rest, 2)?) {
        0 => {}
        code => return Some(Err(format!("the broker returned error code {code}"))),
    }
    // High watermark and last stable offset.
    take(&mut rest, 8 + 8)?;
    let mut aborted = Vec::new();
    for _ in 0..int(take(&mut rest, 4)?).max(0) {
        let (producer, first) = (int(take(&mut rest, 8)?), int(take(&mut rest, 8)?) as u64);
        aborted.push((first, producer));
    }
    aborted.sort_unstable();
    let size = int(take(&mut rest, 4)?).max(0);
    let batches = take(&mut rest, size as usize)?;
    Some(holes_of(batches, &aborted, offset))
}

/// `aborted`: first offset and producer of each transaction, ascending.
fn holes_of(mut batches: &[u8], aborted: &[(u64, i64)], offset: u64) -> Result<Known> {
    let mut aborted = aborted.iter().peekable();
    let mut aborting = BTreeSet::new();
    let mut known = Known { offsets: offset..offset, empty: Vec::new() };
    // The last one may be truncated.
    while batches.len() >= HEADER_BYTES {
        let field = |place: Range<usize>| int(&batches[place]);
        let (base, length, magic) = (field(0..8) as u64, 12 + field(8..12) as usize, field(16..17));
        if magic != 2 || length < HEADER_BYTES {
            return Err(format!("the batch at offset {base} has an unknown format (magic {magic})"));
        }
        if batches.len() < length {
            break;
        }
        let (attributes, producer) = (field(21..23) as i16, field(43..51));
        let end = base + field(23..27) as u64 + 1;
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first < end) {
            aborting.insert(*producer);
        }
        let is_control = attributes & IS_CONTROL != 0;
        if is_control || (attributes & IS_TRANSACTIONAL != 0 && aborting.contains(&producer)) {
            known.empty.push(base..end);
        }
        if is_control {
            // Whether it commits or aborts, it ends its producer's open transaction.
            aborting.remove(&producer);
        }
        known.offsets.end = end.max(offset);
        batches = &batches[length..];
    }
    Ok(known)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// A signed big-endian integer of up to eight bytes.
fn int(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn batch(base: u64, records: u64, attributes: i16, producer: i64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES + 10];
        bytes[0..8].copy_from_slice(&base.to_be_bytes());
        bytes[8..12].copy_from_slice(&((HEADER_BYTES + 10 - 12) as u32).to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&(records as u32 - 1).to_be_bytes());
        bytes[43..51].copy_from_slice(&producer.to_be_bytes());
        bytes
    }

    /// Plain votes at 0–4; a committed transaction of producer 7, with its marker at 7; an aborted one at 8–10, with
    /// its marker at 11, in which producer 9 appended at 9; the marker of producer 9 at 12.
    fn batches() -> (Vec<u8>, Vec<(u64, i64)>) {
        let (data, marker) = (IS_TRANSACTIONAL, IS_TRANSACTIONAL | IS_CONTROL);
        let batches = [
            batch(0, 5, 0, -1),
            batch(5, 2, data, 7),
            batch(7, 1, marker, 7),
            batch(8, 1, data, 7),
            batch(9, 1, data, 9),
            batch(10, 1, data, 7),
            batch(11, 1, marker, 7),
            batch(12, 1, marker, 9),
        ];
        (batches.concat(), vec![(8, 7)])
    }

    #[test]
    fn markers_and_aborted_records_count_as_empty() {
        let (bytes, aborted) = batches();
        let known = holes_of(&bytes, &aborted, 0).unwrap();
        assert_eq!(known, Known { offsets: 0..13, empty: vec![7..8, 8..9, 10..11, 11..12, 12..13] });
        // From the middle of a batch; and with the last batch, or even its header, truncated.
        assert_eq!(holes_of(&bytes, &aborted, 3).unwrap().offsets, 3..13);
        for cut in 1..=HEADER_BYTES + 10 {
            assert_eq!(holes_of(&bytes[..bytes.len() - cut], &aborted, 0).unwrap().offsets, 0..12);
        }
        let old = holes_of(&[0; HEADER_BYTES], &[], 0).unwrap_err();
        assert!(old.contains("magic 0"), "{old}");
    }

    fn answer(code: i16, batches: &[u8], aborted: &[(u64, i64)]) -> Vec<u8> {
        let mut body = [&[0; 8][..], &1_i32.to_be_bytes(), &5_i16.to_be_bytes(), b"votes"].concat();
        body.extend([&1_i32.to_be_bytes()[..], &0_i32.to_be_bytes(), &code.to_be_bytes(), &[0; 16]].concat());
        body.extend((aborted.len() as u32).to_be_bytes());
        for (first, producer) in aborted {
            body.extend([producer.to_be_bytes(), first.to_be_bytes()].concat());
        }
        body.extend([&(batches.len() as u32).to_be_bytes()[..], batches].concat());
        body
    }

    /// Explains a hole with a broker that gives these answers in turn.
    fn explain(holes: &mut Holes, hole: Range<u64>, answers: Vec<Vec<u8>>) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let broker = std::thread::spawn(move || {
            let Some((mut stream, _)) = (!answers.is_empty()).then(|| listener.accept().unwrap()) else { return };
            for answer in answers {
                let mut size = [0; 4];
                stream.read_exact(&mut size).unwrap();
                let mut request = vec![0; u32::from_be_bytes(size) as usize];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&[&(answer.len() as u32).to_be_bytes()[..], &answer].concat()).unwrap();
            }
        });
        let explained = holes.explain("votes", 0, hole, || Ok(address.clone()));
        broker.join().unwrap();
        explained
    }

    #[test]
    fn a_hole_is_explained_by_the_log_or_not_at_all() {
        let (bytes, aborted) = batches();
        let all = answer(0, &bytes, &aborted);
        let mut holes = Holes::default();
        explain(&mut holes, 7..9, vec![all.clone()]).unwrap();
        explain(&mut holes, 10..13, vec![]).expect("known already");
        let lost = explain(&mut holes, 8..10, vec![]).unwrap_err();
        assert_eq!(lost, "the log has a record at offset 9 that was not delivered");
        // The explanation takes two answers.
        let (first, second) = bytes.split_at(7 * (HEADER_BYTES + 10));
        let answers = vec![answer(0, first, &aborted), answer(0, second, &[])];
        explain(&mut Holes::default(), 10..13, answers).unwrap();
        let nothing = explain(&mut Holes::default(), 7..9, vec![answer(0, &[], &[])]).unwrap_err();
        assert_eq!(nothing, "the log has no batch at offset 7 and gives no reason");
    }

    #[test]
    fn an_error_or_a_truncated_answer_explains_nothing() {
        let (bytes, aborted) = batches();
        let all = answer(0, &bytes, &aborted);
        let refused = explain(&mut Holes::default(), 7..9, vec![answer(6, &[], &[])]).unwrap_err();
        assert_eq!(refused, "the broker returned error code 6");
        for cut in 0..all.len() {
            assert_eq!(known(&all[..cut], 0), None, "{cut}");
        }
    }
}
