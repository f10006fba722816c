//! The audit's own log reader, so that a bug in the count's readers cannot hide here.
//!
//! Simple rather than fast. Anything that cannot be read is an error.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};
use scrutin_contract::record::Record;
use scrutin_log::kafka::{KafkaAddress, KafkaSettings};
use scrutin_log::{Home, LogError, VoteLog};

use super::{AuditError, Result};

/// How long to wait for records that the log must have.
const PATIENCE: Duration = Duration::from_secs(30);

/// Passes the records in a range of offsets to `each`, in order. If `each` returns false, stops and returns false.
pub(super) fn records(
    log: &dyn VoteLog,
    partition: u32,
    range: Range<u64>,
    each: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<bool> {
    if range.is_empty() {
        return Ok(true);
    }
    match log.home() {
        Home::Folder(dir) => of_folder(&dir.join(partition.to_string()), range, each),
        Home::Topic { address, settings } => of_topic(address, settings, partition, range, each),
    }
}

/// The segment format is documented in `log/src/embedded.rs` and `log/src/embedded/batch.rs`.
fn of_folder(folder: &Path, range: Range<u64>, each: &mut dyn FnMut(&Record<'_>) -> bool) -> Result<bool> {
    let io = |action: &'static str, path: &Path, source: std::io::Error| {
        AuditError::from(LogError::Io { action, path: path.display().to_string(), source })
    };
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| io("read", folder, error))? {
        let name = entry.map_err(|error| io("read", folder, error))?.file_name().into_string().unwrap_or_default();
        bases.extend(name.strip_suffix(".log").and_then(|base| base.parse::<u64>().ok()));
    }
    bases.sort_unstable();
    let first = bases.partition_point(|base| *base <= range.start).saturating_sub(1);
    let mut next = bases.get(first).copied().unwrap_or(0);
    for base in bases.into_iter().skip(first) {
        let path = folder.join(format!("{base:020}.log"));
        let damaged = |what: String| AuditError::Unusable(format!("{} cannot be recounted: {what}", path.display()));
        if base != next {
            return Err(damaged(format!("it begins at offset {base}, but the previous segment ends at {next}")));
        }
        let mut file = BufReader::new(File::open(&path).map_err(|error| io("open", &path, error))?);
        while next < range.end {
            let mut header = [0; 40];
            match file.read_exact(&mut header) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(io("read", &path, error)),
            }
            let number = |place: Range<usize>| {
                header[place].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
            };
            let (body_len, plain_len, count) = (number(8..12), number(12..16), number(16..20));
            if &header[0..4] != b"SCB1" || number(24..32) != next {
                return Err(damaged(format!("no batch begins at offset {next}")));
            }
            if next + count <= range.start {
                file.seek_relative(body_len as i64).map_err(|error| io("read", &path, error))?;
                next += count;
                continue;
            }
            let mut body = Vec::new();
            file.by_ref().take(body_len).read_to_end(&mut body).map_err(|error| io("read", &path, error))?;
            let checksum = crc32fast::hash(&[&header[8..], &body].concat());
            if u64::from(checksum) != number(4..8) {
                return Err(damaged(format!("the batch at offset {next} does not match its checksum")));
            }
            if header[20] == 1 {
                body = lz4_flex::block::decompress(&body, plain_len as usize)
                    .map_err(|error| damaged(format!("the batch at offset {next} cannot be decompressed ({error})")))?;
            }
            let mut rest = body.as_slice();
            for offset in next..next + count {
                let (key, value) = fields(&mut rest)
                    .ok_or_else(|| damaged(format!("the batch at offset {next} ends before its record {offset}")))?;
                let record = Record { offset, appended_at_ms: number(32..40) as i64, key, value };
                if range.contains(&offset) && !each(&record) {
                    return Ok(false);
                }
            }
            next += count;
        }
    }
    if next < range.end {
        let (folder, end) = (folder.display(), range.end);
        return Err(AuditError::Unusable(format!("{folder} has records up to offset {next}, not up to {end}")));
    }
    Ok(true)
}

/// Key and value.
type Fields<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Reads the key and value of the next record. Both lengths come first, each encoded as LEB128 of the length plus one,
/// or 0 if the field is absent. None if the bytes end early.
fn fields<'a>(rest: &mut &'a [u8]) -> Option<Fields<'a>> {
    let mut length = || {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        let (bytes, after) = rest.split_at(end + 1);
        *rest = after;
        Some(bytes.iter().rev().fold(0_usize, |number, byte| number << 7 | usize::from(byte & 0x7f)))
    };
    let lengths = [length()?, length()?];
    let mut field = |length: usize| {
        let Some(length) = length.checked_sub(1) else { return Some(None) };
        let (bytes, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(Some(bytes))
    };
    Some((field(lengths[0])?, field(lengths[1])?))
}

/// Reads one record per call, through librdkafka's consumer interface. The count uses another interface.
fn of_topic(
    address: &KafkaAddress,
    settings: &KafkaSettings,
    partition: u32,
    range: Range<u64>,
    each: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<bool> {
    let unusable = |next: u64, why: &dyn std::fmt::Display| {
        AuditError::Unusable(format!(
            "partition {partition} of {address} cannot be recounted from offset {next}: {why}"
        ))
    };
    let mut config = settings.consumer(address, &[]);
    // librdkafka requires a group id, although no group is joined.
    config.set("group.id", "scrutin-audit");
    let consumer: BaseConsumer = config.create().map_err(|error| unusable(range.start, &error))?;
    let mut place = TopicPartitionList::new();
    place
        .add_partition_offset(&address.topic, partition as i32, Offset::Offset(range.start as i64))
        .and_then(|()| consumer.assign(&place))
        .map_err(|error| unusable(range.start, &error))?;
    let (mut next, mut heard) = (range.start, Instant::now());
    let mut trouble = None;
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                let offset = message.offset().max(0) as u64;
                if offset >= range.end {
                    return Ok(true);
                }
                let appended_at_ms = message.timestamp().to_millis().unwrap_or(-1);
                let record = Record { offset, appended_at_ms, key: message.key(), value: message.payload() };
                if !each(&record) {
                    return Ok(false);
                }
                (next, heard) = (offset + 1, Instant::now());
                if next == range.end {
                    return Ok(true);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let (_, end) = consumer
                    .fetch_watermarks(&address.topic, partition as i32, PATIENCE)
                    .map_err(|error| unusable(next, &error))?;
                // The rest of the range is transaction markers and aborted records, unless the end is lower: then a new
                // leader does not know its end yet, and more records will come.
                if end.max(0) as u64 >= range.end {
                    return Ok(true);
                }
            }
            Some(Err(error)) if passes(&error) => trouble = Some(error),
            Some(Err(error)) => return Err(unusable(next, &error)),
            None => {}
        }
        if heard.elapsed() > PATIENCE {
            let why = trouble.map_or_else(String::new, |error| format!(" ({error})"));
            return Err(unusable(next, &format!("no record arrived for {} s{why}", PATIENCE.as_secs())));
        }
    }
}

/// Whether an error only means that a broker is unavailable, or the consumer group, which we do not join.
fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}
