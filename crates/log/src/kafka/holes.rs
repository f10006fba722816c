//! Why offsets have no record: they are of the markers of transactions, or of what was aborted in one.
//!
//! librdkafka passes over both without a word, as it would over records that it lost. So where it has handed out none, the
//! headers of the batches there are read once more, over a connection of its own. Only the log's own account counts as an
//! explanation. Formats: Fetch, version 4, <https://kafka.apache.org/protocol>; record batches,
//! <https://kafka.apache.org/documentation/#recordbatch>.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

/// A broker that is there answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// As much is asked for at once, in bytes. Of a larger batch a broker gives all that there is, if it is the first.
const FETCH_BYTES: i32 = 1 << 20;
/// No broker's answer is larger.
const ANSWER_BYTES_MAX: usize = 256 << 20;

const HEADER_BYTES: usize = 61;
const IS_TRANSACTIONAL: i16 = 1 << 4;
const IS_CONTROL: i16 = 1 << 5;

/// Why it cannot be told, for a message.
type Result<T> = std::result::Result<T, String>;

/// What is known of the holes of a topic's partitions.
#[derive(Default)]
pub(super) struct Holes {
    /// By host and port of a broker.
    connections: BTreeMap<(String, u16), TcpStream>,
    known: BTreeMap<u32, Known>,
}

/// What the headers of a run of batches say.
#[derive(Debug, Default, PartialEq)]
struct Known {
    offsets: Range<u64>,
    /// Offsets without a record, of which that is as it should be.
    empty: Vec<Range<u64>>,
}

impl Holes {
    /// Makes sure that the log has no records at these offsets. `leader` gives host and port of the broker that leads
    /// the partition now.
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
                return Err(format!("the log has a record at offset {at}, which was not handed out"));
            } else {
                let address = leader()?;
                let found = self.read(&address, topic, partition, at);
                // What went wrong on it may go wrong again.
                let found = found.inspect_err(|_| drop(self.connections.remove(&address)))?;
                if !found.offsets.contains(&at) {
                    return Err(format!("the log has no batch at offset {at}, and does not say why"));
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
            return Err(format!("{name} gives an answer of {size} bytes"));
        }
        let mut answer = vec![0; size];
        connection.read_exact(&mut answer).map_err(io)?;
        known(&answer, offset).unwrap_or_else(|| Err(format!("{name} gives an answer that ends too soon")))
    }
}

fn connect(address: (&str, u16)) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
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

/// A Fetch of one partition, of what is committed.
fn request(topic: &str, partition: u32, offset: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let text = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    // Key, version, number and sender of the request.
    body.extend([&1_i16.to_be_bytes()[..], &4_i16.to_be_bytes(), &0_i32.to_be_bytes(), &text("scrutin")].concat());
    // No replica; wait for nothing; at least a byte, and no more than that; read committed.
    body.extend([-1_i32, 0, 1, FETCH_BYTES].map(i32::to_be_bytes).concat());
    body.push(1);
    // One topic, one partition.
    body.extend([&1_i32.to_be_bytes()[..], &text(topic), &1_i32.to_be_bytes()].concat());
    body.extend([&partition.to_be_bytes()[..], &offset.to_be_bytes(), &FETCH_BYTES.to_be_bytes()].concat());
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// What an answer says of the batches from an offset on. None if the answer ends too soon.
fn known(answer: &[u8], offset: u64) -> Option<Result<Known>> {
    let mut rest = answer;
    // Its number, the throttle time, one topic, its name, one partition, its number.
    take(&mut rest, 4 + 4 + 4)?;
    let name = int(take(&mut rest, 2)?);
    take(&mut rest, name as usize)?;
    take(&mut rest, 4 + 4)?;
    match int(take(&mut rest, 2)?) {
        0 => {}
        code => return Some(Err(format!("the broker answers with error code {code}"))),
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
    // The last one may be cut.
    while batches.len() >= HEADER_BYTES {
        let field = |place: Range<usize>| int(&batches[place]);
        let (base, length, magic) = (field(0..8) as u64, 12 + field(8..12) as usize, field(16..17));
        if magic != 2 || length < HEADER_BYTES {
            return Err(format!("the batch at offset {base} is not of a form that is known (magic {magic})"));
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
            // Whatever it says, it ends the transaction that its producer had open.
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

/// A signed number of up to eight bytes, the highest first.
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

    /// Plain votes at 0–4; a transaction of producer 7 that was committed, its marker at 7; one of it that was aborted, at
    /// 8–10, in which producer 9 appended at 9, and its marker at 11; the marker of producer 9 at 12.
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
    fn markers_and_what_was_aborted_have_no_records() {
        let (bytes, aborted) = batches();
        let known = holes_of(&bytes, &aborted, 0).unwrap();
        assert_eq!(known, Known { offsets: 0..13, empty: vec![7..8, 8..9, 10..11, 11..12, 12..13] });
        // From within a batch; and where the last one is cut, or even its header.
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

    /// Asks a broker that gives these answers, one after the other.
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
        explain(&mut holes, 10..13, vec![]).expect("is known already");
        let lost = explain(&mut holes, 8..10, vec![]).unwrap_err();
        assert_eq!(lost, "the log has a record at offset 9, which was not handed out");
        // In two answers.
        let (first, second) = bytes.split_at(7 * (HEADER_BYTES + 10));
        let answers = vec![answer(0, first, &aborted), answer(0, second, &[])];
        explain(&mut Holes::default(), 10..13, answers).unwrap();
        let nothing = explain(&mut Holes::default(), 7..9, vec![answer(0, &[], &[])]).unwrap_err();
        assert_eq!(nothing, "the log has no batch at offset 7, and does not say why");
    }

    #[test]
    fn an_answer_that_says_nothing_explains_nothing() {
        let (bytes, aborted) = batches();
        let all = answer(0, &bytes, &aborted);
        let refused = explain(&mut Holes::default(), 7..9, vec![answer(6, &[], &[])]).unwrap_err();
        assert_eq!(refused, "the broker answers with error code 6");
        for cut in 0..all.len() {
            assert_eq!(known(&all[..cut], 0), None, "{cut}");
        }
    }
}
