//! A disk that loses, at a power cut, any data that was not synced. Whatever it loses, the log still opens and holds
//! every record that was reported to its writer as durable.
//!
//! A shim under the writer (`disk/journal.c`) records its file operations. The tests then rebuild the disk as it may
//! look after each operation: synced writes are present, each other write may be present, missing or partial, and a
//! file may be missing if its folder was not synced after it was created.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use scrutin_contract::record::RecordBuffer;
use scrutin_log::{EmbeddedLog, VoteLog};

const PARTITIONS: u32 = 2;
const APPENDS: u64 = 60;
/// What the writer appends to a partition the n-th time.
fn values(partition: u32, append: u64) -> Vec<Vec<u8>> {
    let mut random = Rng::with_seed(append * u64::from(PARTITIONS) + u64::from(partition));
    (0..random.u64(0..6)).map(|_| (0..random.usize(1..200)).map(|_| random.u8(..)).collect()).collect()
}

fn buffer(values: &[Vec<u8>]) -> RecordBuffer {
    let mut buffer = RecordBuffer::default();
    values.iter().for_each(|value| buffer.push(Some(b"key"), Some(value)));
    buffer
}

/// Not a test: the writer process that runs over the shim. It records next to the log which offsets were reported as
/// durable.
#[test]
#[ignore = "a part of another test"]
fn writer() {
    let Ok(folder) = std::env::var("JOURNAL_BELOW") else { return };
    let log = EmbeddedLog::open_existing(&Path::new(&folder).join("log")).unwrap().with_segment_bytes(2_000);
    let reported = std::fs::File::create(Path::new(&folder).join("reported")).unwrap();
    let mut ends = vec![0; PARTITIONS as usize];
    // Close and reopen in between, as after a restart.
    for opened in 0..3 {
        let mut writer = log.writer(&(0..PARTITIONS).collect::<Vec<_>>()).unwrap();
        for append in opened * APPENDS / 3..(opened + 1) * APPENDS / 3 {
            let all: Vec<_> = (0..PARTITIONS).map(|partition| values(partition, append)).collect();
            let mut buffers: Vec<_> = (0..).zip(all.iter().map(|values| buffer(values))).collect();
            writer.append(&mut buffers).unwrap();
            writer.flush().unwrap();
            (0..).zip(&all).for_each(|(partition, values): (usize, _)| ends[partition] += values.len());
            let line: Vec<u8> = ends.iter().flat_map(|end| (*end as u64).to_le_bytes()).collect();
            reported.write_all_at(&line, append * line.len() as u64).unwrap();
        }
    }
}

#[derive(Clone)]
enum Deed {
    Create,
    Write { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
    Sync,
}

/// Runs the writer over the shim; returns its file operations, in order.
fn deeds(folder: &Path) -> Vec<(PathBuf, Deed)> {
    let (shim, journal) = (folder.join("journal.so"), folder.join("journal"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/disk/journal.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").status().unwrap();
    assert!(built.success());
    let below = folder.join("below");
    EmbeddedLog::open(&below.join("log"), PARTITIONS).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "disk::writer", "--ignored"]).env("LD_PRELOAD", &shim);
    let output = command.env("JOURNAL", &journal).env("JOURNAL_BELOW", &below).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let text = std::fs::read(&journal).unwrap();
    let mut rest = text.as_slice();
    let mut deeds = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (deed, at, len): (_, usize, usize) = (word(), word().parse().unwrap(), word().parse().unwrap());
        let deed = match deed {
            "C" => Deed::Create,
            "T" => Deed::Cut { len },
            "S" => Deed::Sync,
            _ => {
                let (bytes, after) = rest.split_at(len);
                rest = after;
                Deed::Write { at, bytes: bytes.to_vec() }
            }
        };
        deeds.push((Path::new(word()).strip_prefix(&below).unwrap().to_owned(), deed));
    }
    deeds
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    /// Not yet synced.
    pending: Vec<Deed>,
    /// Whether the folder was synced after the file was created.
    is_listed: bool,
}

impl File {
    fn done(bytes: &mut Vec<u8>, deed: &Deed, part: usize) {
        match deed {
            Deed::Write { at, bytes: written } => {
                let end = at + part.min(written.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(&written[..end - at]);
            }
            Deed::Cut { len } => bytes.resize(*len, 0),
            Deed::Create | Deed::Sync => {}
        }
    }
}

/// The files as found after a power cut, and the offsets reported to the writer as durable before it.
fn cut(deeds: Vec<(PathBuf, Deed)>, random: &mut Rng) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<u64>) {
    let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
    let mut reported = vec![0; PARTITIONS as usize];
    for (path, deed) in deeds {
        match deed {
            Deed::Write { bytes, .. } if path == Path::new("reported") => {
                reported = bytes.chunks(8).map(|end| u64::from_le_bytes(end.try_into().unwrap())).collect();
            }
            Deed::Sync if path.extension().is_none() && !path.ends_with("durable") => {
                files
                    .iter_mut()
                    .filter(|(file, _)| file.parent() == Some(&path))
                    .for_each(|(_, file)| file.is_listed = true);
            }
            Deed::Sync => {
                let File { synced, pending, .. } = files.entry(path).or_default();
                pending.drain(..).for_each(|deed| File::done(synced, &deed, usize::MAX));
            }
            deed => files.entry(path).or_default().pending.push(deed),
        }
    }
    let mut found = BTreeMap::new();
    for (path, mut file) in files.into_iter().filter(|(path, _)| path.starts_with("log")) {
        if !file.is_listed && random.bool() {
            continue;
        }
        for deed in file.pending {
            let part = if random.bool() { usize::MAX } else { random.usize(..50) };
            if random.bool() {
                File::done(&mut file.synced, &deed, part);
            }
        }
        found.insert(path, file.synced);
    }
    (found, reported)
}

#[test]
fn a_power_cut_loses_no_record_reported_as_durable() {
    cut_power(300);
}

#[test]
#[ignore = "takes minutes"]
fn soak_a_power_cut_loses_no_record_reported_as_durable() {
    cut_power(30_000);
}

fn cut_power(cuts: usize) {
    let seed = std::env::var("SCRUTIN_CRASH_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    println!("SCRUTIN_CRASH_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let all = deeds(folder.path());
    let segments: BTreeSet<_> = all.iter().map(|(path, _)| path).filter(|path| path.extension().is_some()).collect();
    assert!(segments.len() > 5 && all.len() > 400, "{} segments, {} deeds", segments.len(), all.len());
    let whole: Vec<Vec<Vec<u8>>> =
        (0..PARTITIONS).map(|partition| (0..APPENDS).flat_map(|append| values(partition, append)).collect()).collect();
    for number in 0..cuts {
        let until = random.usize(..=all.len());
        let before = all[..until].iter().map(|(path, deed)| (path.clone(), deed.clone())).collect();
        let (files, reported) = cut(before, &mut random);
        let dir = folder.path().join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        for partition in 0..PARTITIONS {
            std::fs::create_dir_all(dir.join(format!("log/{partition}"))).unwrap();
        }
        std::fs::copy(folder.path().join("below/log/log.json"), dir.join("log/log.json")).unwrap();
        files.iter().for_each(|(path, bytes)| std::fs::write(dir.join(path), bytes).unwrap());
        let log = EmbeddedLog::open_existing(&dir.join("log")).unwrap();
        for (partition, reported) in (0..).zip(reported) {
            let at = format!("power cut {number} after deed {until}, partition {partition}, {reported} reported");
            // Recover as a counter would, or as the next writer would.
            if random.bool() {
                log.recover(partition, reported).unwrap_or_else(|error| panic!("{at}: {error}"));
            } else {
                drop(log.writer(&[partition]).unwrap_or_else(|error| panic!("{at}: {error}")));
            }
            let end = log.offsets(partition).unwrap().end;
            assert!(end >= reported, "{at}: ends at {end}");
            let (mut reader, mut read) = (log.reader(&[(partition, 0)]).unwrap(), Vec::new());
            while (read.len() as u64) < end {
                let batch =
                    reader.fetch(Duration::from_secs(60)).unwrap().unwrap_or_else(|| panic!("{at}: ends early"));
                read.extend(batch.records().map(|record| record.value.unwrap().to_vec()));
            }
            assert_eq!(read, whole[partition as usize][..read.len()], "{at}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
