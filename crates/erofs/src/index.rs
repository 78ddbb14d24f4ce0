//! The members of a tar, without their data.

mod encoded;

use crate::BLOCK;
use crate::tar::{MAX_MEMBERS, MAX_NAME_BYTES, MAX_NAMES_BYTES, TarError, printable};

pub use encoded::IndexError;

/// A point in time since 1970; `nanos` counts forward from `seconds`, before 1970 too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds, below one second.
    pub nanos: u32,
}

/// What a member of a tar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MemberKind {
    /// A regular file.
    File = 0,
    /// A directory.
    Directory = 1,
    /// A symlink to [`Member::link`].
    Symlink = 2,
    /// Another name of the member [`Member::link`].
    HardLink = 3,
    /// A character device.
    CharacterDevice = 4,
    /// A block device.
    BlockDevice = 5,
    /// A named pipe.
    Fifo = 6,
    /// A file stored without its holes, in GNU's old way or in pax headers.
    Sparse = 7,
    /// The rest of a file that began in another volume of the archive.
    Continuation = 8,
}

impl MemberKind {
    const ALL: [Self; 9] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::HardLink,
        Self::CharacterDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Sparse,
        Self::Continuation,
    ];
}

/// One member, as the tar has it: nothing is cleaned up or judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name.
    pub path: &'a [u8],
    /// Where a link points to; empty for others.
    pub link: &'a [u8],
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change.
    pub mtime: Time,
    /// Where the data begins in the tar, in bytes: a multiple of [`BLOCK`].
    pub offset: u64,
    /// Length of a file in bytes; 0 for all else.
    pub size: u64,
}

/// All members of one tar, in its order: about 50 bytes each, and their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarIndex {
    records: Vec<Record>,
    names: Vec<u8>,
    tar_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    size: u64,
    seconds: i64,
    nanos: u32,
    uid: u32,
    gid: u32,
    /// Where the data begins, in blocks.
    block: u32,
    path: u32,
    link: u32,
    path_bytes: u16,
    link_bytes: u16,
    mode: u16,
    kind: MemberKind,
}

/// A member that an index takes in.
#[derive(Clone, Copy)]
pub(crate) struct NewMember<'a> {
    pub(crate) header: u64,
    pub(crate) data: u64,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) kind: MemberKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) size: u64,
}

impl TarIndex {
    /// How many members there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the tar has no member.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Length of the tar in bytes.
    pub fn tar_bytes(&self) -> u64 {
        self.tar_bytes
    }

    /// The members in the order of the tar.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = Member<'_>> + ExactSizeIterator {
        self.records.iter().map(|record| self.member(record))
    }

    /// The member at a position, which is below [`Self::len`].
    pub(crate) fn at(&self, position: u32) -> Member<'_> {
        self.member(&self.records[position as usize])
    }

    /// Where the name of the member at a position begins in [`Self::names`].
    pub(crate) fn path_begins(&self, position: u32) -> u32 {
        self.records[position as usize].path
    }

    /// All names and link targets in one piece.
    pub(crate) fn names(&self) -> &[u8] {
        &self.names
    }

    pub(crate) fn add(&mut self, member: NewMember<'_>) -> Result<(), TarError> {
        let offset = member.header;
        if let Some(text) = [member.name, member.link].into_iter().find(|text| text.len() > MAX_NAME_BYTES) {
            return Err(TarError::LongName { offset, bytes: text.len() });
        }
        if self.records.len() == MAX_MEMBERS {
            return Err(TarError::ManyMembers);
        }
        let end = (member.data + member.size).div_ceil(BLOCK);
        // The highest number means a hole.
        if end >= u64::from(u32::MAX) {
            return Err(TarError::Large { member: printable(member.name) });
        }
        let path = self.name(member.name)?;
        let link = self.name(member.link)?;
        self.records.push(Record {
            size: member.size,
            seconds: member.mtime.seconds,
            nanos: member.mtime.nanos,
            uid: member.uid,
            gid: member.gid,
            block: (member.data / BLOCK) as u32,
            path,
            link,
            path_bytes: member.name.len() as u16,
            link_bytes: member.link.len() as u16,
            mode: member.mode,
            kind: member.kind,
        });
        Ok(())
    }

    /// The same members with other names; hard links, whose targets are names too, follow.
    pub(crate) fn renamed(&self, rename: impl Fn(&[u8]) -> Vec<u8>) -> Result<Self, TarError> {
        let mut renamed = Self { records: Vec::with_capacity(self.records.len()), ..Self::default() };
        for member in self.members() {
            let link = match member.kind {
                MemberKind::HardLink => rename(member.link),
                _ => member.link.to_vec(),
            };
            renamed.add(NewMember {
                header: member.offset.saturating_sub(BLOCK),
                data: member.offset,
                name: &rename(member.path),
                link: &link,
                kind: member.kind,
                mode: member.mode,
                uid: member.uid,
                gid: member.gid,
                mtime: member.mtime,
                size: member.size,
            })?;
        }
        renamed.seal(self.tar_bytes);
        Ok(renamed)
    }

    pub(crate) fn seal(&mut self, tar_bytes: u64) {
        self.tar_bytes = tar_bytes;
        self.records.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    fn name(&mut self, text: &[u8]) -> Result<u32, TarError> {
        if self.names.len() + text.len() > MAX_NAMES_BYTES {
            return Err(TarError::ManyNames);
        }
        let begins = self.names.len() as u32;
        self.names.extend_from_slice(text);
        Ok(begins)
    }

    fn member(&self, record: &Record) -> Member<'_> {
        let text = |begins: u32, bytes: u16| &self.names[begins as usize..][..usize::from(bytes)];
        Member {
            path: text(record.path, record.path_bytes),
            link: text(record.link, record.link_bytes),
            kind: record.kind,
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            mtime: Time { seconds: record.seconds, nanos: record.nanos },
            offset: u64::from(record.block) * BLOCK,
            size: record.size,
        }
    }
}
