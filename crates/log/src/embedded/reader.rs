//! Reads the partitions of an embedded log, up to the durable end.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use scrutin_contract::record::Batch;

use super::batch::{self, HEADER_BYTES};
use super::{EmbeddedLog, io_error, segment};
use crate::{LogError, LogReader, Result};

/// How often a waiting reader looks for new records.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

pub(super) struct Reader {
    partitions: Vec<PartitionReader>,
    /// Whose turn it is, so that a busy partition does not starve the others.
    turn: usize,
    body: Vec<u8>,
    spare: Vec<Batch>,
}

struct PartitionReader {
    partition: u32,
    folder: PathBuf,
    /// The offset of the next record to read.
    next_offset: u64,
    durable: Option<File>,
    known_durable: u64,
    segment: Option<Segment>,
}

struct Segment {
    file: File,
    path: PathBuf,
    position: u64,
    /// The offset of the batch at `position`.
    offset: u64,
}

impl Reader {
    pub fn open(log: &EmbeddedLog, from: &[(u32, u64)]) -> Result<Reader> {
        let partitions = from.iter().map(|&(partition, next_offset)| {
            let folder = log.folder(partition)?;
            Ok(PartitionReader { partition, folder, next_offset, durable: None, known_durable: 0, segment: None })
        });
        Ok(Reader { partitions: partitions.collect::<Result<_>>()?, turn: 0, body: Vec::new(), spare: Vec::new() })
    }
}

impl LogReader for Reader {
    fn fetch(&mut self, wait: Duration) -> Result<Option<Batch>> {
        let deadline = Instant::now() + wait;
        loop {
            for _ in 0..self.partitions.len() {
                let turn = self.turn;
                self.turn = (turn + 1) % self.partitions.len();
                let reader = &mut self.partitions[turn];
                if reader.has_more()? {
                    let mut batch = self.spare.pop().unwrap_or_default();
                    reader.read(&mut self.body, &mut batch)?;
                    return Ok(Some(batch));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    fn recycle(&mut self, batch: Batch) {
        self.spare.push(batch);
    }
}

impl PartitionReader {
    fn has_more(&mut self) -> Result<bool> {
        if self.known_durable <= self.next_offset {
            let path = self.folder.join("durable");
            if self.durable.is_none() {
                self.durable = match File::open(&path) {
                    Ok(file) => Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                    Err(error) => return Err(io_error("open", &path, error)),
                };
            }
            if let Some(file) = &self.durable {
                self.known_durable = segment::durable_of(file, &path)?;
            }
        }
        Ok(self.known_durable > self.next_offset)
    }

    /// Reads the batch with the next record. The record is durable, so the batch must be there.
    fn read(&mut self, body: &mut Vec<u8>, batch: &mut Batch) -> Result<()> {
        loop {
            let segment = match &mut self.segment {
                Some(segment) => segment,
                None => self.segment.insert(Segment::holding(self.partition, &self.folder, self.next_offset)?),
            };
            match segment::read_batch(&segment.file, segment.position, segment.offset, body) {
                Ok(Some(header)) => {
                    let position = segment.position;
                    segment.position += (HEADER_BYTES + header.body_bytes) as u64;
                    segment.offset = header.end_offset();
                    if segment.offset <= self.next_offset {
                        continue;
                    }
                    batch::decode(&header, body, self.next_offset, batch)
                        .map_err(|what| segment::damaged(&segment.path, position, what))?;
                    batch.partition = self.partition;
                    self.next_offset = segment.offset;
                    return Ok(());
                }
                // The segment ends here; the next batch is in the next segment.
                Ok(None) if segment::path(&self.folder, segment.offset) != segment.path => {
                    let (offset, position, path) = (segment.offset, segment.position, segment.path.clone());
                    self.segment = Some(Segment::at(&self.folder, offset).map_err(|_| {
                        segment::damaged(
                            &path,
                            position,
                            format!("expected offset {offset} here or at the start of a new segment"),
                        )
                    })?);
                }
                Ok(None) => {
                    return Err(segment::damaged(&segment.path, segment.position, "a stored batch is truncated"));
                }
                Err(segment::ReadError::Damaged(what)) => {
                    return Err(segment::damaged(&segment.path, segment.position, what));
                }
                Err(segment::ReadError::Io(error)) => return Err(io_error("read", &segment.path, error)),
            }
        }
    }
}

impl Segment {
    fn at(folder: &std::path::Path, base: u64) -> Result<Segment> {
        let path = segment::path(folder, base);
        let file = File::open(&path).map_err(|e| io_error("open", &path, e))?;
        Ok(Segment { file, path, position: 0, offset: base })
    }

    fn holding(partition: u32, folder: &std::path::Path, offset: u64) -> Result<Segment> {
        let bases = segment::list(folder)?;
        match (bases.iter().rev().find(|base| **base <= offset), bases.first()) {
            (Some(&base), _) => Segment::at(folder, base),
            (None, Some(&start)) => Err(LogError::Truncated { partition, wanted: offset, start }),
            (None, None) => Err(segment::damaged(folder, 0, "votes were stored here, but there is no segment")),
        }
    }
}
