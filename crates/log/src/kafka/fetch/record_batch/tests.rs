use std::io::Write;

use bytes::{BufMut, BytesMut};
use kafka_protocol::records::{Compression, Record as Sent, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Offset, append time, key and value.
type Found = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn sent(offset: u64) -> Sent {
    Sent {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 3,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: offset as i64,
        sequence: offset as i32,
        timestamp: 1_000,
        key: Some(format!("key {offset}").into()),
        value: Some(format!("value {offset}").into()),
        headers: [].into_iter().collect(),
    }
}

fn transactional(offset: u64, producer_id: i64) -> Sent {
    Sent { transactional: true, producer_id, ..sent(offset) }
}

/// The marker that commits or aborts a producer's transaction.
fn marker(offset: u64, producer_id: i64, is_abort: bool) -> Sent {
    let key = [[0, 0], if is_abort { [0, 0] } else { [0, 1] }].concat();
    Sent { control: true, key: Some(key.into()), ..transactional(offset, producer_id) }
}

/// One batch, unless records differ in what is a batch's.
fn encoded(records: &[Sent], compression: Compression) -> BytesMut {
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &RecordEncodeOptions { version: 2, compression }).unwrap();
    bytes
}

/// The batch as a broker stores it in a topic with append times.
fn with_append_time(mut batch: BytesMut) -> BytesMut {
    batch[22] |= HAS_APPEND_TIME as u8;
    with_checksum(batch)
}

fn with_checksum(mut batch: BytesMut) -> BytesMut {
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch
}

/// A batch for each record.
fn apart(records: impl IntoIterator<Item = Sent>) -> Bytes {
    let batches = records.into_iter().map(|record| encoded(&[record], Compression::None));
    batches
        .fold(BytesMut::new(), |mut all, batch| {
            all.put(batch);
            all
        })
        .freeze()
}

/// Reads until nothing is left; the offset that was reached comes last.
fn read_all(batches: &mut RecordBatches) -> Result<(Vec<Found>, u64)> {
    let mut all = Vec::new();
    loop {
        let mut batch = Batch::new(0);
        if !batches.read(&mut batch)? {
            return Ok((all, batches.next_offset));
        }
        all.extend(
            batch
                .records()
                .map(|it| (it.offset, it.appended_at_ms, it.key.map(<[u8]>::to_vec), it.value.map(<[u8]>::to_vec))),
        );
        assert_eq!(batch.next_offset, batches.next_offset);
    }
}

fn offsets(batches: &mut RecordBatches) -> Result<(Vec<u64>, u64)> {
    read_all(batches).map(|(found, end)| (found.into_iter().map(|(offset, ..)| offset).collect(), end))
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

proptest! {
    #[test]
    fn records_are_read_as_another_implementation_wrote_them(
        records in proptest::collection::vec((field(), field(), 0..100_000_i64, proptest::option::of(field())), 1..60),
        per_batch in 1..30_usize,
        codec in 0..5_usize,
        has_append_time in any::<bool>(),
        base in 0..(1_u64 << 40),
        skipped in 0..60_u64,
    ) {
        let records: Vec<Sent> = records.into_iter().zip(base..).map(|((key, value, timestamp, header), offset)| Sent {
            timestamp,
            key: key.map(Into::into),
            value: value.map(Into::into),
            headers: header.map(|value| ("name".to_owned().into(), value.map(Into::into))).into_iter().collect(),
            ..sent(offset)
        }).collect();
        let from = base + skipped % records.len() as u64;
        let (mut bytes, mut expected) = (BytesMut::new(), Vec::new());
        for batch in records.chunks(per_batch) {
            let encoded = encoded(batch, CODECS[codec]);
            bytes.put(if has_append_time { with_append_time(encoded) } else { encoded });
            let last_time = batch.iter().map(|record| record.timestamp).max().unwrap();
            expected.extend(batch.iter().filter(|record| record.offset as u64 >= from).map(|record| (
                record.offset as u64,
                if has_append_time { last_time } else { record.timestamp },
                record.key.as_deref().map(<[u8]>::to_vec),
                record.value.as_deref().map(<[u8]>::to_vec),
            )));
        }
        let first = records.chunks(per_batch).take_while(|batch| (batch.last().unwrap().offset as u64) < from);
        let skipped_bytes: usize = first.map(|batch| encoded(batch, CODECS[codec]).len()).sum();
        let bytes = bytes.freeze();
        let end = base + records.len() as u64;
        prop_assert_eq!(Reach::of(&bytes), Ok(Reach { end: Some((end, 3)), cut: None }));
        let mut batches = RecordBatches::new(0, from, bytes.slice(skipped_bytes..), Vec::new());
        prop_assert_eq!(read_all(&mut batches), Ok((expected, end)));
    }

    /// A reader must not trust what a broker sends.
    #[test]
    fn damaged_bytes_are_refused_and_never_read_as_other_records(
        codec in 0..5_usize,
        damages in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<Sent> = (10..40).map(sent).collect();
        let whole = [encoded(&records[..10], CODECS[codec]), encoded(&records[10..], CODECS[codec])].concat();
        let mut damaged = whole.clone();
        for (place, byte) in damages {
            *place.get_mut(&mut damaged) = byte;
        }
        damaged.truncate(cut.index(whole.len() + 1));
        let mut batches = RecordBatches::new(0, 10, damaged.into(), Vec::new()).aligned(true);
        let expected: Vec<_> = read_all(&mut RecordBatches::new(0, 10, whole.into(), Vec::new())).unwrap().0;
        let mut batch = Batch::new(0);
        while let Ok(true) = batches.read(&mut batch) {}
        let found: Vec<_> = batch.records().map(|it| (it.offset, it.value.map(<[u8]>::to_vec))).collect();
        let expected: Vec<_> = expected.into_iter().map(|(offset, _, _, value)| (offset, value)).collect();
        prop_assert_eq!(&found[..], &expected[..found.len()]);
        prop_assert!(batch.next_offset <= 10 + found.len() as u64);
    }

    #[test]
    fn damaged_records_with_a_right_checksum_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // A checksum that fits lets the bytes through to what reads records.
        let mut batch = encoded(&[sent(0)], Compression::None);
        batch.truncate(HEADER_BYTES);
        batch.put(&bytes[..]);
        for codec in 0..6 {
            batch[22] = batch[22] & !0b111 | codec;
            let length = batch.len() as u32 - 12;
            batch[8..12].copy_from_slice(&length.to_be_bytes());
            let batch = with_checksum(batch.clone()).freeze();
            let _any = read_all(&mut RecordBatches::new(0, 0, batch, Vec::new()));
        }
        let _any = read_all(&mut RecordBatches::new(0, 0, bytes.into(), Vec::new()));
    }
}

#[test]
fn markers_and_aborted_records_are_gaps() {
    let batches = apart([
        sent(0),
        // Producer 7 commits a transaction, and aborts the next one, into which producer 9 appends.
        transactional(1, 7),
        marker(2, 7, false),
        transactional(3, 7),
        transactional(4, 9),
        transactional(5, 7),
        marker(6, 7, true),
        transactional(7, 7),
        marker(8, 9, false),
        // An abort without an entry: its transaction was empty.
        marker(9, 9, true),
        marker(10, 7, false),
    ]);
    let aborted = vec![(3, 7)];
    let read = |from| offsets(&mut RecordBatches::new(0, from, batches.clone(), aborted.clone()));
    assert_eq!(read(0), Ok((vec![0, 1, 4, 7], 11)));
}

#[test]
fn a_commit_marker_does_not_end_an_aborted_transaction() {
    // The entry of the transaction that begins at 2 is already in force at the marker of the one before.
    let batch = |records: &[Sent]| encoded(records, Compression::None);
    let batches = [
        batch(&[transactional(0, 7), transactional(1, 7)]),
        batch(&[marker(2, 7, false)]),
        batch(&[transactional(3, 7)]),
        batch(&[marker(4, 7, true)]),
        batch(&[sent(5)]),
    ];
    let mut batches = RecordBatches::new(0, 0, batches.concat().into(), vec![(2, 7)]);
    assert_eq!(offsets(&mut batches), Ok((vec![0, 1, 5], 6)));
}

#[test]
fn only_aborted_records_advance_too() {
    let batches = apart([transactional(5, 7), transactional(6, 7)]);
    assert_eq!(offsets(&mut RecordBatches::new(0, 5, batches, vec![(5, 7)])), Ok((vec![], 7)));
}

#[test]
fn a_cut_batch_is_left_for_the_next_request() {
    let (first, second) = (apart([sent(4)]), apart([sent(5)]));
    let both = [first.clone(), second.clone()].concat();
    for length in 0..both.len() {
        let batches = &both[..length];
        let reach = Reach::of(batches).unwrap();
        let mut read = RecordBatches::new(0, 4, batches.to_vec().into(), Vec::new());
        let (found, next) = offsets(&mut read).unwrap();
        match length >= first.len() {
            true => assert_eq!((found, next, reach.end), (vec![4], 5, Some((5, 3)))),
            false => assert_eq!((found, next, reach.end), (vec![], 4, None)),
        }
        let (rest, whole) =
            if length < first.len() { (length, first.len()) } else { (length - first.len(), second.len()) };
        let needed = if rest < HEADER_BYTES { HEADER_BYTES } else { whole };
        assert_eq!(reach.cut, (rest > 0).then_some(needed));
    }
}

#[test]
fn an_offset_without_a_record_is_an_error_unless_the_topic_is_compacted() {
    let missing = |offset| Err(BatchError::Missing { offset });
    let (lost, within) = (apart([sent(0), sent(2)]), encoded(&[sent(0), sent(1), sent(4)], Compression::Lz4).freeze());
    for (batches, from, offset) in [(&lost, 0, 1), (&within, 0, 2), (&within, 1, 2), (&within, 3, 3)] {
        let mut read = RecordBatches::new(0, from, batches.clone(), Vec::new());
        assert_eq!(offsets(&mut read), missing(offset), "from {from}");
        let mut read = RecordBatches::new(0, from, batches.clone(), Vec::new()).compacted(true);
        offsets(&mut read).unwrap();
    }
    // The records of batches before it are passed on.
    let mut batch = Batch::new(0);
    let error = RecordBatches::new(0, 0, lost, Vec::new()).read(&mut batch).unwrap_err();
    assert_eq!(error.to_string(), "the log has no record at offset 1 and gives no reason");
    assert_eq!((batch.len(), batch.next_offset), (1, 1));
}

#[test]
fn each_flipped_bit_is_noticed() {
    for codec in CODECS {
        let whole = encoded(&[sent(7), sent(8)], codec).to_vec();
        for bit in 0..whole.len() * 8 {
            // Nothing protects the leader's epoch.
            if (12 * 8..16 * 8).contains(&bit) {
                continue;
            }
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = offsets(&mut RecordBatches::new(0, 7, flipped.into(), Vec::new()).aligned(true));
            // The rest of a batch that seems longer than it is would be asked for.
            assert!(read.is_err() || read == Ok((vec![], 7)), "bit {bit}: {read:?}");
        }
    }
}

#[test]
fn snappy_is_read_with_and_without_the_frame_of_java() {
    let text = b"a vote, a vote, a vote and another vote".repeat(10);
    let raw = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    let block = [&(raw.len() as u32).to_be_bytes()[..], &raw].concat();
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &block[..], &block].concat();
    let mut read = Vec::new();
    decompress(2, &raw, &mut read).unwrap();
    assert_eq!(read, text);
    decompress(2, &framed, &mut read).unwrap();
    assert_eq!(read, text.repeat(3));
    for cut in 17..framed.len() {
        let whole = cut == 16 + block.len();
        assert_eq!(decompress(2, &framed[..cut], &mut Vec::new()).is_ok(), whole, "{cut}");
    }
}

#[test]
fn a_batch_that_decompresses_to_too_much_is_refused() {
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..257 {
        zstd.write_all(&[0; 1 << 20]).unwrap();
        gzip.write_all(&[0; 1 << 20]).unwrap();
    }
    // Snappy begins with the length, here 4 GiB less one byte.
    let snappy = b"\xff\xff\xff\xff\x0f".to_vec();
    for (codec, bytes) in [(1, gzip.finish().unwrap()), (2, snappy), (4, zstd.finish().unwrap())] {
        let error = decompress(codec, &bytes, &mut Vec::new()).unwrap_err();
        assert_eq!(error, "a batch decompresses to more than 256 MiB", "codec {codec}");
    }
}
