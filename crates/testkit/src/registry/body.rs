//! Bodies of answers, and the ways in which they go wrong half way.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use super::fault::Fault;
use super::shared::Shared;
use super::socket::{Connection, Pace};
use super::traffic::Download;
use crate::artifacts::{BlobData, BlobReader, CHUNK};

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body held in memory.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

enum Stop {
    Truncate,
    Reset,
    Stall,
}

/// A part of a blob on its way to a client.
pub(super) struct Delivery {
    reader: BlobReader,
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    download: Download,
    offset: u64,
    length: u64,
    stops: VecDeque<(u64, Stop)>,
    corrupt: Vec<u64>,
    /// Zeros that follow the blob; `u64::MAX` never ends.
    extra: u64,
    drip: Option<(u64, Pace)>,
}

impl Delivery {
    pub(super) async fn new(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        download: Download,
        data: &BlobData,
        range: Range<u64>,
        faults: &[Fault],
    ) -> io::Result<Self> {
        let mut stops = Vec::new();
        let mut corrupt = Vec::new();
        let mut extra = 0;
        let mut drip = None;
        for fault in faults {
            let stop = match fault {
                Fault::Truncate(at) => Some((at, Stop::Truncate)),
                Fault::Reset(at) => Some((at, Stop::Reset)),
                Fault::Stall(at) => Some((at, Stop::Stall)),
                Fault::Corrupt(at) => {
                    corrupt.extend(at.in_body(&range));
                    None
                }
                Fault::TooLong(bytes) => {
                    extra = *bytes;
                    None
                }
                Fault::Endless => {
                    extra = u64::MAX;
                    None
                }
                Fault::Drip(rate) => {
                    drip = Some((*rate, Pace::default()));
                    None
                }
                _ => None,
            };
            if let Some((at, stop)) = stop {
                stops.extend(at.in_body(&range).map(|offset| (offset, stop)));
            }
        }
        stops.sort_by_key(|(offset, _)| *offset);
        Ok(Self {
            reader: data.reader(range.clone()).await?,
            shared: Arc::clone(shared),
            connection: Arc::clone(connection),
            download,
            offset: 0,
            length: range.end - range.start,
            stops: stops.into(),
            corrupt,
            extra,
            drip,
        })
    }

    /// The bytes as a body.
    pub(super) fn into_body(self) -> Body {
        let frames = stream::try_unfold(self, |mut delivery| async move {
            let chunk = delivery.next().await?;
            Ok(chunk.map(|bytes| (Frame::data(bytes), delivery)))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some((offset, _)) = self.stops.front()
            && *offset <= self.offset
        {
            if let Some((_, stop)) = self.stops.pop_front() {
                self.stop(stop).await?;
            }
        }
        let rate = self.shared.rate.load(Ordering::Relaxed);
        let limit = match (&self.drip, rate) {
            (Some((drip, _)), _) => (drip / 20).max(1),
            (None, 0) => CHUNK,
            (None, rate) => (rate / 50).max(1),
        };
        let upto = self.stops.front().map_or(self.length, |(offset, _)| *offset);
        let want = limit.min(CHUNK).min(upto.saturating_sub(self.offset));
        let chunk = if self.offset < self.length {
            let chunk = self.reader.next(want).await?;
            self.corrupted(chunk)
        } else {
            let zeros = self.extra.min(limit.min(CHUNK));
            if self.extra != u64::MAX {
                self.extra -= zeros;
            }
            Bytes::from(vec![0; zeros as usize])
        };
        let bytes = chunk.len() as u64;
        if bytes == 0 {
            return Ok(None);
        }
        if let Some((drip, pace)) = &self.drip {
            pace.take(bytes, *drip).await;
        }
        self.connection.pace.take(bytes, rate).await;
        self.offset += bytes;
        self.download.sent(bytes);
        Ok(Some(chunk))
    }

    async fn stop(&self, stop: Stop) -> io::Result<()> {
        match stop {
            Stop::Stall => {
                self.shared.faults.stall().await;
                return Ok(());
            }
            Stop::Truncate => self.connection.settle().await,
            Stop::Reset => {
                self.connection.settle().await;
                self.connection.end_by_reset();
            }
        }
        Err(io::Error::other("the fault switch cuts this body here"))
    }

    fn corrupted(&self, chunk: Bytes) -> Bytes {
        let here = self.offset..self.offset + chunk.len() as u64;
        if !self.corrupt.iter().any(|offset| here.contains(offset)) {
            return chunk;
        }
        let mut bytes = BytesMut::from(chunk);
        for offset in self.corrupt.iter().filter(|offset| here.contains(offset)) {
            bytes[(offset - here.start) as usize] ^= 0x20;
        }
        bytes.freeze()
    }
}

/// The bytes in a gzip stream, stored and not compressed: a lie about the encoding needs no more.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn gunzip_reads_what_gzip_wrote() {
        for bytes in [vec![], vec![7; 10], (0..200_000u32).map(|n| n as u8).collect()] {
            let mut child =
                Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let zipped = gzip(&bytes);
            let writer = std::thread::spawn(move || stdin.write_all(&zipped).unwrap());
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap();
            assert!(output.status.success());
            assert_eq!(output.stdout, bytes);
        }
    }
}
