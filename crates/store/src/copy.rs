//! Rows in PostgreSQL's binary COPY format, the cheapest way to insert new rows.
//!
//! Source: PostgreSQL's manual, page COPY, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, pin_mut};
use tokio_postgres::{Statement, Transaction};

/// Rows to copy into one table.
pub(super) struct CopyRows {
    chunks: Vec<Bytes>,
    rows: BytesMut,
}

/// Approximate size of a message.
const CHUNK_BYTES: usize = 64 << 10;

impl CopyRows {
    pub fn new() -> CopyRows {
        CopyRows { chunks: Vec::new(), rows: BytesMut::new() }
    }

    /// Begins a row with this many columns, which must then be added in order.
    pub fn row(&mut self, columns: i16) -> &mut CopyRows {
        if self.is_empty() {
            self.rows.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
            self.rows.put_i32(0); // flags
            self.rows.put_i32(0); // length of the header's extension
        } else if self.rows.len() >= CHUNK_BYTES {
            self.chunks.push(self.rows.split().freeze());
        }
        self.rows.put_i16(columns);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut CopyRows {
        self.rows.put_i32(text.len() as i32);
        self.rows.extend_from_slice(text.as_bytes());
        self
    }

    pub fn int4(&mut self, number: i32) -> &mut CopyRows {
        self.rows.put_i32(4);
        self.rows.put_i32(number);
        self
    }

    pub fn int8(&mut self, number: i64) -> &mut CopyRows {
        self.rows.put_i32(8);
        self.rows.put_i64(number);
        self
    }

    /// A `bytea` of this length, concatenated from pieces.
    pub fn bytes<const N: usize>(&mut self, len: usize, pieces: impl Iterator<Item = [u8; N]>) -> &mut CopyRows {
        self.rows.put_i32(len as i32);
        self.rows.reserve(len);
        pieces.for_each(|piece| self.rows.extend_from_slice(&piece));
        self
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.rows.is_empty()
    }

    /// Copies the rows, if any, with a `COPY … FROM STDIN (FORMAT binary)` statement.
    pub async fn send(mut self, transaction: &Transaction<'_>, copy: &Statement) -> Result<(), tokio_postgres::Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.rows.put_i16(-1);
        self.chunks.push(self.rows.freeze());
        let sink = transaction.copy_in::<_, Bytes>(copy).await?;
        pin_mut!(sink);
        for chunk in self.chunks {
            sink.feed(chunk).await?;
        }
        sink.finish().await?;
        Ok(())
    }
}
