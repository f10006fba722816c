//! Appends to the partitions of an embedded log.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scrutin_contract::record::RecordBuffer;
use scrutin_files::private;

use super::batch::{self, BODY_BYTES_MAX};
use super::{Codec, EmbeddedLog, io_error, segment};
use crate::{LogError, LogWriter, Result};

/// How long another process's writer may take to scan its segment, and how often to check whether it has finished.
const OPENING_MAX: Duration = Duration::from_secs(10);
const OPENING_POLL: Duration = Duration::from_millis(10);

pub(super) struct Writer {
    partitions: Vec<PartitionWriter>,
    /// Set after a failed append, which leaves the files in doubt: only reopening them shows what they hold.
    broken: bool,
}

struct PartitionWriter {
    partition: u32,
    folder: PathBuf,
    segment: File,
    segment_path: PathBuf,
    /// Bytes in the segment.
    position: u64,
    next_offset: u64,
    last_append_ms: i64,
    durable: File,
    codec: Codec,
    segment_bytes: u64,
    packed: Vec<u8>,
    _lock: Lock,
}

impl Writer {
    pub fn open(log: &EmbeddedLog, partitions: &[u32]) -> Result<Writer> {
        // An earlier version left the folder open to everybody.
        private::close_folder(&log.dir).map_err(|e| io_error("close to others", &log.dir, e))?;
        let partitions = partitions.iter().map(|&partition| PartitionWriter::open(log, partition));
        Ok(Writer { partitions: partitions.collect::<Result<_>>()?, broken: false })
    }

    fn try_append(&mut self, buffers: &mut [(u32, RecordBuffer)]) -> Result<()> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let mut touched = Vec::with_capacity(buffers.len());
        for (partition, records) in buffers.iter_mut().filter(|(_, records)| !records.is_empty()) {
            let place =
                self.partitions.iter().position(|writer| writer.partition == *partition).ok_or_else(|| {
                    LogError::Unusable(format!("this writer was not opened for partition {partition}"))
                })?;
            self.partitions[place].write(records, now_ms)?;
            records.clear();
            touched.push(place);
        }
        for place in touched {
            self.partitions[place].sync()?;
        }
        Ok(())
    }
}

impl LogWriter for Writer {
    fn append(&mut self, buffers: &mut [(u32, RecordBuffer)]) -> Result<()> {
        if self.broken {
            return Err(LogError::Unusable("an earlier append failed; open the log again".into()));
        }
        let result = self.try_append(buffers);
        self.broken = result.is_err();
        result
    }
}

impl PartitionWriter {
    fn open(log: &EmbeddedLog, partition: u32) -> Result<PartitionWriter> {
        let lock = take_lock(&log.folder(partition)?)?;
        PartitionWriter::open_locked(log, partition, 0, lock)
    }

    /// `known_end`: the records before it have been acknowledged as stored.
    fn open_locked(log: &EmbeddedLog, partition: u32, known_end: u64, lock: Lock) -> Result<PartitionWriter> {
        let folder = log.folder(partition)?;
        let durable_path = folder.join("durable");
        let durable = open_file(&durable_path)?;
        let promised = segment::durable_of(&durable, &durable_path)?.max(known_end);

        let bases = segment::list(&folder)?;
        if bases.is_empty() && promised > 0 {
            return Err(segment::damaged(&folder, 0, "votes were stored here, but there is no segment"));
        }
        let base = bases.last().copied().unwrap_or(0);
        let segment_path = segment::path(&folder, base);
        let segment = open_file(&segment_path)?;
        if bases.is_empty() {
            segment::sync_folder(&folder)?;
        }
        let scan = segment::scan(&segment, &segment_path, base)?;
        if let Some(what) = scan.damage {
            if scan.end_offset < promised {
                return Err(segment::damaged(&segment_path, scan.bytes, what));
            }
            tracing::warn!(
                "{}: {what} at byte {}; truncating here, as the rest was never acknowledged",
                segment_path.display(),
                scan.bytes
            );
            segment.set_len(scan.bytes).map_err(|e| io_error("truncate", &segment_path, e))?;
        }
        if scan.end_offset < promised {
            let what = format!("ends at offset {}, but votes up to {promised} were stored", scan.end_offset);
            return Err(segment::damaged(&segment_path, scan.bytes, what));
        }
        let mut writer = PartitionWriter {
            partition,
            folder,
            segment,
            segment_path,
            position: scan.bytes,
            next_offset: scan.end_offset,
            last_append_ms: scan.last_append_ms,
            durable,
            codec: log.codec,
            segment_bytes: log.segment_bytes,
            packed: Vec::new(),
            _lock: lock,
        };
        // Complete batches past the mark are kept: no reader has seen them yet, and keeping them loses no votes.
        writer.sync()?;
        Ok(writer)
    }

    fn write(&mut self, records: &RecordBuffer, now_ms: i64) -> Result<()> {
        if records.size() > BODY_BYTES_MAX {
            return Err(LogError::Unusable(format!(
                "an append of {} bytes is too large; the maximum is {BODY_BYTES_MAX}",
                records.size()
            )));
        }
        if self.position >= self.segment_bytes {
            self.roll()?;
        }
        // Append time never goes back, even if the clock does.
        self.last_append_ms = self.last_append_ms.max(now_ms);
        batch::encode(records, self.next_offset, self.last_append_ms, self.codec, &mut self.packed);
        if let Err(error) = self.segment.write_all_at(&self.packed, self.position) {
            // A partly written batch must not be in the way of the next writer.
            self.segment.set_len(self.position).map_err(|e| io_error("truncate", &self.segment_path, e))?;
            return Err(self.write_error(error));
        }
        self.position += self.packed.len() as u64;
        self.next_offset += records.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if let Err(error) = self.segment.sync_data() {
            return Err(self.write_error(error));
        }
        let mark = self.next_offset.to_le_bytes();
        self.durable.write_all_at(&mark, 0).map_err(|error| self.write_error(error))
    }

    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        self.segment_path = segment::path(&self.folder, self.next_offset);
        self.segment = open_file(&self.segment_path)?;
        self.position = 0;
        segment::sync_folder(&self.folder)
    }

    fn write_error(&self, error: io::Error) -> LogError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Unusable(format!(
                "the disk is full: cannot append to {}; every vote acknowledged so far is safe; free some space and start again",
                self.segment_path.display()
            )),
            _ => io_error("append to", &self.segment_path, error),
        }
    }
}

/// Advances the mark to cover the records before `end`, if they exist.
pub(super) fn recover(log: &EmbeddedLog, partition: u32, end: u64) -> Result<()> {
    let folder = log.folder(partition)?;
    let deadline = Instant::now() + OPENING_MAX;
    while segment::read_durable(&folder)? < end && Instant::now() < deadline {
        if let Some(lock) = lock_file(&folder)? {
            return match PartitionWriter::open_locked(log, partition, end, lock) {
                // They do not exist; the caller sees that from the end of the log.
                Err(error @ LogError::Damaged { .. }) => {
                    tracing::warn!("{error}");
                    Ok(())
                }
                opened => opened.map(drop),
            };
        }
        // Another process's writer advances the mark itself when it opens.
        std::thread::sleep(OPENING_POLL);
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<File> {
    private::options().create(true).truncate(false).open(path).map_err(|e| io_error("open", path, e))
}

/// Held by the one process that writes to a partition.
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being spawned may briefly hold a copy of the handle.
        let _ = self.0.unlock();
    }
}

pub(super) fn take_lock(folder: &Path) -> Result<Lock> {
    lock_file(folder)?.ok_or_else(|| {
        LogError::Unusable(format!(
            "another process is writing to {}; a partition can have only one writer",
            folder.display()
        ))
    })
}

/// `None` while another writer holds the lock.
fn lock_file(folder: &Path) -> Result<Option<Lock>> {
    let path = folder.join("lock");
    let file = open_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, error)),
    }
}
