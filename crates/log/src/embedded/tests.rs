use std::fs::OpenOptions;
use std::time::Duration;

use proptest::prelude::*;
use scrutin_contract::record::RecordBuffer;
use tempfile::TempDir;

use super::*;

type Field = Option<Vec<u8>>;

fn append(log: &EmbeddedLog, partition: u32, records: &[(Field, Field)]) -> Result<()> {
    let mut buffers = [(partition, RecordBuffer::default())];
    for (key, value) in records {
        buffers[0].1.push(key.as_deref(), value.as_deref());
    }
    log.writer(&[partition])?.append(&mut buffers)
}

fn numbered(numbers: Range<u32>) -> Vec<(Field, Field)> {
    numbers.map(|n| (Some(format!("k{n}").into_bytes()), Some(format!("v{n}").into_bytes()))).collect()
}

/// All records of a partition from an offset, with their offsets.
fn read(log: &EmbeddedLog, partition: u32, from: u64) -> Result<Vec<(u64, Field, Field)>> {
    let mut reader = log.reader(&[(partition, from)])?;
    let mut records = Vec::new();
    while let Some(batch) = reader.fetch(Duration::ZERO)? {
        assert_eq!(batch.partition, partition);
        records.extend(batch.records().map(|r| (r.offset, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec))));
        assert_eq!(batch.next_offset, records.last().map_or(from, |last| last.0 + 1));
        reader.recycle(batch);
    }
    Ok(records)
}

fn fields() -> impl Strategy<Value = Field> {
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        proptest::collection::vec(Just(7_u8), 100..300),
    ])
}

proptest! {
    #[test]
    fn gives_back_what_was_appended_from_any_offset(
        appends in proptest::collection::vec(proptest::collection::vec((fields(), fields()), 0..20), 1..8),
        plain in any::<bool>(),
        segment_bytes in 1_u64..2000,
        from in any::<prop::sample::Index>(),
    ) {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(dir.path(), 2).unwrap().with_segment_bytes(segment_bytes);
        let log = log.with_codec(if plain { Codec::Plain } else { Codec::Lz4 });
        for records in &appends {
            append(&log, 1, records).unwrap();
        }
        let all: Vec<_> = appends.concat().into_iter().enumerate().map(|(n, (k, v))| (n as u64, k, v)).collect();
        prop_assert_eq!(log.offsets(1).unwrap(), 0..all.len() as u64);
        prop_assert_eq!(log.offsets(0).unwrap(), 0..0);
        let from = from.index(all.len() + 1);
        prop_assert_eq!(read(&log, 1, from as u64).unwrap(), &all[from..]);
    }
}

fn last_segment(dir: &TempDir) -> PathBuf {
    let folder = dir.path().join("0");
    segment::path(&folder, *segment::list(&folder).unwrap().last().unwrap())
}

fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_torn_tail_is_cut_off_and_nothing_else_is_lost() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(dir.path(), 1).unwrap();
    append(&log, 0, &numbered(0..10)).unwrap();
    let path = last_segment(&dir);
    let whole = fs::read(&path).unwrap();
    let durable = fs::read(dir.path().join("0/durable")).unwrap();
    append(&log, 0, &numbered(10..20)).unwrap();
    let both = fs::read(&path).unwrap();
    // The writer dies at any byte of the second batch, before it can record that the batch is stored.
    for len in whole.len()..both.len() {
        fs::write(&path, &both[..len]).unwrap();
        fs::write(dir.path().join("0/durable"), &durable).unwrap();
        assert_eq!(read(&log, 0, 0).unwrap().len(), 10, "readers see only what is durable");
        append(&log, 0, &numbered(10..12)).unwrap();
        let values: Vec<_> = read(&log, 0, 0).unwrap().into_iter().map(|(_, key, value)| (key, value)).collect();
        assert_eq!(values, numbered(0..12), "cut at {len}");
    }
}

#[test]
fn a_whole_batch_that_was_not_yet_acknowledged_is_kept() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(dir.path(), 1).unwrap();
    append(&log, 0, &numbered(0..10)).unwrap();
    fs::write(dir.path().join("0/durable"), 3_u64.to_le_bytes()).unwrap();
    append(&log, 0, &[]).unwrap();
    assert_eq!(log.offsets(0).unwrap(), 0..10);
}

#[test]
fn damage_to_stored_votes_is_an_error_and_never_cut_off() {
    for harm in ["flip", "cut", "remove"] {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(dir.path(), 1).unwrap();
        append(&log, 0, &numbered(0..10)).unwrap();
        append(&log, 0, &numbered(10..20)).unwrap();
        let path = last_segment(&dir);
        let mut bytes = fs::read(&path).unwrap();
        match harm {
            "flip" => {
                let middle = bytes.len() / 4;
                bytes[middle] ^= 1;
                fs::write(&path, &bytes).unwrap();
            }
            "cut" => cut(&path, bytes.len() as u64 - 1),
            _ => fs::remove_file(&path).unwrap(),
        }
        let (read, write) = (read(&log, 0, 0), log.writer(&[0]).map(|_| ()));
        for error in [read.map(|_| ()).unwrap_err(), write.unwrap_err()] {
            assert!(error.to_string().contains(&dir.path().display().to_string()), "{harm}: {error}");
        }
        if harm != "remove" {
            assert_eq!(
                fs::read(&path).unwrap().len(),
                bytes.len() - usize::from(harm == "cut"),
                "{harm}: the file is left unchanged"
            );
        }
    }
}

#[test]
fn a_partition_has_one_writer() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(dir.path(), 2).unwrap();
    let first = log.writer(&[0]).unwrap();
    let error = log.writer(&[0, 1]).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("another process is writing"), "{error}");
    drop(first);
    log.writer(&[0, 1]).map(|_| ()).unwrap();
}

/// A child process that is being spawned while a writer ends holds such a copy.
#[test]
fn a_copied_lock_file_does_not_keep_the_lock() {
    let dir = TempDir::new().unwrap();
    let lock = writer::take_lock(dir.path()).unwrap();
    let _copy = lock.0.try_clone().unwrap();
    drop(lock);
    writer::take_lock(dir.path()).unwrap();
}

#[test]
fn the_number_of_partitions_is_fixed() {
    let dir = TempDir::new().unwrap();
    EmbeddedLog::open(dir.path(), 4).unwrap();
    let error = EmbeddedLog::open(dir.path(), 5).unwrap_err();
    assert!(error.to_string().contains("has 4 partitions, not 5"), "{error}");
    assert_eq!(EmbeddedLog::open_existing(dir.path()).unwrap().partitions(), 4);
}

#[test]
fn a_missing_start_is_an_error() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(dir.path(), 1).unwrap().with_segment_bytes(1);
    append(&log, 0, &numbered(0..10)).unwrap();
    append(&log, 0, &numbered(10..20)).unwrap();
    fs::remove_file(segment::path(&dir.path().join("0"), 0)).unwrap();
    assert_eq!(log.offsets(0).unwrap(), 10..20);
    assert!(matches!(read(&log, 0, 4), Err(LogError::Truncated { wanted: 4, start: 10, .. })));
    assert_eq!(read(&log, 0, 12).unwrap().len(), 8);
}

/// A file system of one megabyte, for a test that fills it.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let dir = TempDir::new().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .status();
        mount.is_ok_and(|status| status.success()).then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = std::process::Command::new("umount").arg(self.0.path()).status();
        assert!(unmount.is_ok_and(|status| status.success()), "cannot unmount {}", self.0.path().display());
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "SKIPPED a_full_disk_is_a_clear_error_and_loses_nothing_acknowledged: not allowed to mount a small disk"
        );
        return;
    };
    let log = EmbeddedLog::open(disk.0.path(), 1).unwrap().with_codec(Codec::Plain);
    let block = |n: u8| vec![(None, Some(vec![n; 100_000]))];
    let mut acknowledged = 0;
    let error = loop {
        match append(&log, 0, &block(acknowledged)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!((5..=10).contains(&acknowledged), "{acknowledged} blocks fit");
    assert_eq!(log.offsets(0).unwrap().end, u64::from(acknowledged));
    assert_eq!(read(&log, 0, 0).unwrap().len(), usize::from(acknowledged));
    // A smaller batch still fits where the torn one was truncated.
    append(&log, 0, &[(None, Some(b"small".to_vec()))]).unwrap();
    assert_eq!(read(&log, 0, 0).unwrap().len(), usize::from(acknowledged) + 1);
}

proptest! {
    /// After a power cut the mark may have any earlier value, since it is not synced.
    #[test]
    fn recover_finds_a_later_end_behind_an_earlier_mark(
        appends in proptest::collection::vec(1_u32..20, 1..8),
        segment_bytes in 1_u64..2000,
        known in any::<prop::sample::Index>(),
        mark in any::<prop::sample::Index>(),
        tail in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let dir = TempDir::new().unwrap();
        let log = EmbeddedLog::open(dir.path(), 1).unwrap().with_segment_bytes(segment_bytes);
        let mut ends = vec![0];
        for count in &appends {
            let end = ends.last().unwrap() + count;
            append(&log, 0, &numbered(ends.last().copied().unwrap()..end)).unwrap();
            ends.push(end);
        }
        let all = read(&log, 0, 0).unwrap();
        // What a writer had in flight when the power failed.
        let last = segment::list(&dir.path().join("0")).unwrap().pop().unwrap();
        let mut segment = OpenOptions::new().append(true).open(segment::path(&dir.path().join("0"), last)).unwrap();
        io::Write::write_all(&mut segment, &tail).unwrap();
        let mark = u64::from(ends[mark.index(ends.len())]);
        fs::write(dir.path().join("0/durable"), mark.to_le_bytes()).unwrap();

        let known = u64::from(ends[known.index(ends.len())]);
        log.recover(0, known).unwrap();
        let end = log.offsets(0).unwrap().end;
        prop_assert!(end >= known.max(mark), "{} {} {}", end, known, mark);
        prop_assert_eq!(&read(&log, 0, 0).unwrap()[..], &all[..end as usize]);
        // `recover` does not invent records that never existed.
        log.recover(0, all.len() as u64 + 1).unwrap();
        prop_assert_eq!(log.offsets(0).unwrap().end, end);
    }
}
