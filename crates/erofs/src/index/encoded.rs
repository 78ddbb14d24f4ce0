//! An index as bytes, for the file beside the tar.
//!
//! ```text
//! "stowtarx"  version u16 LE  varint tar bytes  varint members
//! per member: head (kind, or'ed with SAME_OWNER, SAME_MODE, NANOS)
//!             varint bytes shared with the name before, varint further bytes, these
//!             [links: varint bytes, these]  [varint mode]  [varint uid, varint gid]
//!             zigzag seconds since the member before  [varint nanoseconds]
//!             varint blocks since the data of the member before  varint size
//! crc32c u32 LE of everything above
//! ```
//!
//! A varint has seven bits a byte, lowest first; zigzag is a varint whose lowest bit is the sign.

use std::io::{self, Write};

use super::{MemberKind, NewMember, TarIndex, Time};
use crate::BLOCK;
use crate::tar::{MAX_MEMBERS, MAX_NAME_BYTES};

const MAGIC: &[u8; 8] = b"stowtarx";
const VERSION: u16 = 1;
const KIND: u8 = 0x0f;
const SAME_OWNER: u8 = 0x10;
const SAME_MODE: u8 = 0x20;
const NANOS: u8 = 0x40;

/// Why bytes are not an index. All of them mean: make it again from the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Something else.
    #[error("these bytes are not the index of a tar")]
    Foreign,
    /// Written by another version of this program.
    #[error("the index of the tar has version {found}, and this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Not what was written.
    #[error("the index of the tar is damaged: its checksum is wrong")]
    Checksum,
    /// The checksum is right and the content makes no sense.
    #[error("the index of the tar is damaged: its content contradicts itself")]
    Corrupt,
}

/// What is told as a difference from the member before.
#[derive(Default)]
struct Before<'a> {
    name: &'a [u8],
    seconds: i64,
    block: u64,
    mode: u16,
    owner: (u32, u32),
}

impl TarIndex {
    /// Writes the index: some 20 to 40 bytes a member. [`Self::decode`] reads it.
    pub fn encode(&self, out: impl Write) -> io::Result<()> {
        let mut out = Encoder { out, checksum: 0, pending: Vec::with_capacity(FLUSH + 1024) };
        out.pending.extend_from_slice(MAGIC);
        out.pending.extend_from_slice(&VERSION.to_le_bytes());
        out.varint(self.tar_bytes);
        out.varint(self.len() as u64);
        let mut before = Before::default();
        for member in self.members() {
            let nanos = member.mtime.nanos;
            let owner = (member.uid, member.gid);
            let flag = |on: bool, bit: u8| if on { bit } else { 0 };
            let head = flag(owner == before.owner, SAME_OWNER)
                | flag(member.mode == before.mode, SAME_MODE)
                | flag(nanos != 0, NANOS);
            out.pending.push(member.kind as u8 | head);
            let shared = before.name.iter().zip(member.path).take_while(|(old, new)| old == new).count();
            out.varint(shared as u64);
            out.text(&member.path[shared..]);
            if has_link(member.kind) {
                out.text(member.link);
            }
            if head & SAME_MODE == 0 {
                out.varint(u64::from(member.mode));
            }
            if head & SAME_OWNER == 0 {
                out.varint(u64::from(member.uid));
                out.varint(u64::from(member.gid));
            }
            out.zigzag(member.mtime.seconds.wrapping_sub(before.seconds));
            if nanos != 0 {
                out.varint(u64::from(nanos));
            }
            let block = member.offset / BLOCK;
            out.varint(block - before.block);
            out.varint(member.size);
            before =
                Before { name: member.path, seconds: member.mtime.seconds, block, mode: member.mode, owner };
            out.flush_if_full()?;
        }
        out.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(IndexError::Foreign)?;
        let (version, _) = rest.split_first_chunk::<2>().ok_or(IndexError::Foreign)?;
        let found = u16::from_le_bytes(*version);
        if found != VERSION {
            return Err(IndexError::Version { found });
        }
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(IndexError::Foreign)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return Err(IndexError::Checksum);
        }
        let body = content.get(MAGIC.len() + 2..).ok_or(IndexError::Corrupt)?;
        decode_body(&mut Decoder(body)).ok_or(IndexError::Corrupt)
    }
}

fn decode_body(bytes: &mut Decoder<'_>) -> Option<TarIndex> {
    let mut index = TarIndex::default();
    let tar_bytes = bytes.varint()?;
    let members = usize::try_from(bytes.varint()?).ok()?;
    // A member takes at least six bytes: nothing is reserved that the bytes do not bear out.
    if members > MAX_MEMBERS || members > bytes.0.len() {
        return None;
    }
    index.records.reserve_exact(members);
    let (mut name, mut seconds, mut block, mut mode, mut owner) = (Vec::new(), 0i64, 0u64, 0u16, (0, 0));
    for _ in 0..members {
        let head = bytes.byte()?;
        let kind = *MemberKind::ALL.get(usize::from(head & KIND))?;
        let shared = usize::try_from(bytes.varint()?).ok().filter(|shared| *shared <= name.len())?;
        name.truncate(shared);
        name.extend_from_slice(bytes.text()?);
        let link = if has_link(kind) { bytes.text()? } else { b"" };
        if head & SAME_MODE == 0 {
            mode = u16::try_from(bytes.varint()?).ok()?;
        }
        if head & SAME_OWNER == 0 {
            owner = (u32::try_from(bytes.varint()?).ok()?, u32::try_from(bytes.varint()?).ok()?);
        }
        seconds = seconds.wrapping_add(bytes.zigzag()?);
        let nanos = if head & NANOS == 0 { 0 } else { u32::try_from(bytes.varint()?).ok()? };
        block = block.checked_add(bytes.varint()?).filter(|block| *block < u64::from(u32::MAX))?;
        let size = bytes.varint()?;
        let (data, mtime) = (block * BLOCK, Time { seconds, nanos });
        data.checked_add(size).filter(|end| *end <= tar_bytes)?;
        let (uid, gid) = owner;
        let member = NewMember { header: 0, data, name: &name, link, kind, mode, uid, gid, mtime, size };
        index.add(member).ok()?;
    }
    index.seal(tar_bytes);
    bytes.0.is_empty().then_some(index)
}

fn has_link(kind: MemberKind) -> bool {
    matches!(kind, MemberKind::Symlink | MemberKind::HardLink)
}

/// How much is gathered before it is written.
const FLUSH: usize = 64 * 1024;

struct Encoder<W> {
    out: W,
    checksum: u32,
    pending: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.pending.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.pending.push(value as u8);
    }

    fn zigzag(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn text(&mut self, text: &[u8]) {
        self.varint(text.len() as u64);
        self.pending.extend_from_slice(text);
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.pending.len() < FLUSH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, &self.pending);
        self.out.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&self.checksum.to_le_bytes())?;
        self.out.flush()
    }
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let bytes = usize::try_from(self.varint()?).ok().filter(|bytes| *bytes <= MAX_NAME_BYTES)?;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(text)
    }
}
