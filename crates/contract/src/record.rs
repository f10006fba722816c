//! Records, as log readers and writers exchange them.

use std::ops::Range;

/// A record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: u64,
    /// The time when the log appended it, in milliseconds since 1970 UTC.
    pub appended_at_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Records of one partition that were read together.
#[derive(Debug, Default)]
pub struct Batch {
    pub partition: u32,
    /// The offset after the batch, including gaps at its end.
    pub next_offset: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    appended_at_ms: i64,
    key: Span,
    value: Span,
}

/// A range of `Batch::bytes`; `start == u32::MAX` marks an absent field.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const ABSENT: Span = Span { start: u32::MAX, len: 0 };

    #[inline]
    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.start != u32::MAX).then(|| &bytes[self.start as usize..][..self.len as usize])
    }
}

impl Batch {
    #[inline]
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.entries.len()).map(|place| self.record(place))
    }

    /// The record at an index, from 0.
    #[inline]
    pub fn record(&self, place: usize) -> Record<'_> {
        let entry = &self.entries[place];
        Record {
            offset: entry.offset,
            appended_at_ms: entry.appended_at_ms,
            key: entry.key.of(&self.bytes),
            value: entry.value.of(&self.bytes),
        }
    }

    /// An empty batch of a partition.
    pub fn new(partition: u32) -> Batch {
        Batch { partition, ..Batch::default() }
    }

    /// Empties the batch and assigns it to a partition.
    pub fn restart(&mut self, partition: u32) {
        self.partition = partition;
        self.next_offset = 0;
        self.bytes.clear();
        self.entries.clear();
    }

    /// Appends a record.
    #[inline]
    pub fn push(&mut self, record: Record<'_>) {
        let mut keep = |field: Option<&[u8]>| match field {
            None => Span::ABSENT,
            Some(field) => {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(field);
                Span { start, len: field.len() as u32 }
            }
        };
        let (key, value) = (keep(record.key), keep(record.value));
        self.entries.push(Entry { offset: record.offset, appended_at_ms: record.appended_at_ms, key, value });
        self.next_offset = record.offset + 1;
    }

    /// The buffer that holds the records' fields. Fill it before [`find_packed`](Batch::find_packed) or
    /// [`push_at`](Batch::push_at).
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a record whose key and value lie at these places of the [buffer](Batch::bytes_mut), which must stay below
    /// 4 GiB.
    #[inline]
    pub fn push_at(
        &mut self,
        offset: u64,
        appended_at_ms: i64,
        key: Option<Range<usize>>,
        value: Option<Range<usize>>,
    ) {
        let span = |field: Option<Range<usize>>| {
            field.map_or(Span::ABSENT, |field| Span { start: field.start as u32, len: field.len() as u32 })
        };
        self.entries.push(Entry { offset, appended_at_ms, key: span(key), value: span(value) });
        self.next_offset = offset + 1;
    }

    /// Removes the records after the first `len`; the batch then ends at `next_offset`.
    pub fn truncate(&mut self, len: usize, next_offset: u64) {
        self.entries.truncate(len);
        self.next_offset = next_offset;
    }

    /// Indexes `count` records that the [buffer](Batch::bytes_mut) holds in the format of [`RecordBuffer`]. Their offsets
    /// are consecutive, starting at `first`; records before `from` are left out.
    ///
    /// # Errors
    /// If the bytes are not exactly `count` records.
    pub fn find_packed(&mut self, first: u64, count: u32, appended_at_ms: i64, from: u64) -> Result<(), &'static str> {
        self.entries.clear();
        self.entries.reserve(count as usize);
        let mut at = 0;
        for place in 0..u64::from(count) {
            let key = take_length(&self.bytes, &mut at).ok_or("a record's length is cut off")?;
            let value = take_length(&self.bytes, &mut at).ok_or("a record's length is cut off")?;
            let (key, value) = (take_span(&self.bytes, &mut at, key), take_span(&self.bytes, &mut at, value));
            let (Some(key), Some(value)) = (key, value) else { return Err("a record is cut off") };
            let offset = first + place;
            if offset >= from {
                self.entries.push(Entry { offset, appended_at_ms, key, value });
            }
        }
        if at == self.bytes.len() { Ok(()) } else { Err("bytes follow the last record") }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A LEB128 number of at most 32 bits.
#[inline]
fn take_length(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[inline]
fn take_span(bytes: &[u8], at: &mut usize, length: u32) -> Option<Span> {
    let Some(len) = length.checked_sub(1) else { return Some(Span::ABSENT) };
    let start = *at;
    *at = start + len as usize;
    (*at <= bytes.len()).then_some(Span { start: start as u32, len })
}

/// Records that wait to be appended together, packed as in the log: for key and value each a LEB128 length plus one
/// (zero: absent), then the two fields' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBuffer {
    bytes: Vec<u8>,
    count: u32,
}

impl RecordBuffer {
    pub fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_length(key);
        self.push_length(value);
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
    }

    /// Adds a record whose value is given in parts, to avoid assembling it elsewhere first.
    #[inline]
    pub fn push_parts<const PARTS: usize>(&mut self, key: &[u8], value: [&[u8]; PARTS]) {
        let value_len: usize = value.iter().map(|part| part.len()).sum();
        self.bytes.reserve(key.len() + value_len + 10);
        self.push_field_length(key.len() + 1);
        self.push_field_length(value_len + 1);
        self.bytes.extend_from_slice(key);
        for part in value {
            self.bytes.extend_from_slice(part);
        }
        self.count += 1;
    }

    fn push_length(&mut self, field: Option<&[u8]>) {
        self.push_field_length(field.map_or(0, |bytes| bytes.len() + 1));
    }

    #[inline]
    fn push_field_length(&mut self, mut rest: usize) {
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    /// Key and value of each record, in order.
    pub fn records(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&[u8]>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::repeat_with(move || {
            let key_len = take_field_length(&mut rest);
            let value_len = take_field_length(&mut rest);
            (take_field(&mut rest, key_len), take_field(&mut rest, value_len))
        })
        .take(self.count as usize)
    }

    /// The packed bytes.
    pub fn packed(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Reads a LEB128 number that [`RecordBuffer`] wrote.
#[inline]
fn take_field_length(rest: &mut &[u8]) -> usize {
    let mut number = 0;
    for (place, byte) in rest.iter().enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *rest = &rest[place + 1..];
            break;
        }
    }
    number
}

/// Reads a field whose packed length is its own plus one; zero means absent.
#[inline]
fn take_field<'a>(rest: &mut &'a [u8], packed_len: usize) -> Option<&'a [u8]> {
    let len = packed_len.checked_sub(1)?;
    let (field, behind) = rest.split_at(len);
    *rest = behind;
    Some(field)
}

#[cfg(test)]
mod tests;
