//! A tar read in pieces, as its bytes pass.

use super::error::{TarError, printable};
use super::header::Header;
use super::pax::Records;
use super::{MAX_EXTENSION_BYTES, MAX_EXTENSIONS};
use crate::index::{MemberKind, NewMember, TarIndex, Time};

const BLOCK: usize = 512;

/// Builds the [`TarIndex`] of a tar from its bytes, in pieces of any size.
///
/// Memory grows with the members and their names, never with their data.
#[derive(Debug)]
pub struct TarIndexer {
    /// How many bytes have passed.
    position: u64,
    state: State,
    block: Box<[u8; BLOCK]>,
    filled: usize,
    pending: Pending,
    global: Records,
    index: TarIndex,
    failed: Option<TarError>,
}

/// What the next bytes are.
#[derive(Debug)]
enum State {
    /// A header.
    Header,
    /// More of the map of a sparse file whose data has this length.
    SparseMap { data: u64 },
    /// The data of an extension header.
    Extension { kind: Extension, header: u64, left: u64, data: Vec<u8> },
    /// The data of a member, and what fills its last block.
    Data { left: u64, padding: u64 },
    /// The second half of the end mark.
    SecondZeros,
    /// What follows the end mark: anything.
    End,
}

#[derive(Clone, Copy, Debug)]
enum Extension {
    Pax,
    GlobalPax,
    GnuName,
    GnuLink,
}

/// What extension headers said about the member that comes next.
#[derive(Debug, Default)]
struct Pending {
    pax: Records,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    count: u32,
}

impl Default for TarIndexer {
    fn default() -> Self {
        Self::new()
    }
}

impl TarIndexer {
    /// Waits for the first byte.
    pub fn new() -> Self {
        Self {
            position: 0,
            state: State::Header,
            block: Box::new([0; BLOCK]),
            filled: 0,
            pending: Pending::default(),
            global: Records::default(),
            index: TarIndex::default(),
            failed: None,
        }
    }

    /// Takes the next bytes. After an error it takes no more and repeats the error.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = &bytes[taken..];
            self.position += taken as u64;
            self.settle().inspect_err(|error| self.failed = Some(error.clone()))?;
        }
        Ok(())
    }

    /// How many of the next bytes make no difference: whoever can seek may leave them out with [`Self::skip`].
    pub fn skippable(&self) -> u64 {
        match &self.state {
            State::Data { left, padding } => left + padding,
            // What follows the end mark of a tar with members may be anything.
            State::End if !self.index.is_empty() => u64::MAX,
            _ => 0,
        }
    }

    /// Passes over so many of the [`Self::skippable`] bytes; never over more.
    pub fn skip(&mut self, bytes: u64) {
        let bytes = bytes.min(self.skippable());
        self.position += bytes;
        if let State::Data { left, padding } = &mut self.state {
            let data = bytes.min(*left);
            *left -= data;
            *padding -= bytes - data;
            if (*left, *padding) == (0, 0) {
                self.state = State::Header;
            }
        }
    }

    /// The index, when the bytes were a whole tar. A missing end mark, or a last block that is not filled up, is no error here.
    pub fn finish(mut self) -> Result<TarIndex, TarError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let cut_off = |member| Err(TarError::Truncated { offset: self.position, member });
        match &self.state {
            _ if self.position == 0 => return Err(TarError::Empty),
            State::Header if self.block[..self.filled].iter().any(|byte| *byte != 0) => {
                return if self.index.is_empty() { Err(TarError::NotATar) } else { cut_off(None) };
            }
            State::Data { left: 1.., .. } => return cut_off(self.last_name()),
            State::Extension { .. } | State::SparseMap { .. } => return cut_off(None),
            State::Header if self.pending.count > 0 => return cut_off(None),
            State::Header | State::Data { .. } | State::SecondZeros | State::End => {}
        }
        self.index.seal(self.position);
        Ok(self.index)
    }

    /// Takes what the state wants of the bytes; says how much.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let available = |wanted: u64| wanted.min(bytes.len() as u64) as usize;
        match &mut self.state {
            State::Header | State::SparseMap { .. } | State::SecondZeros => {
                let taken = bytes.len().min(BLOCK - self.filled);
                self.block[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                taken
            }
            State::Extension { left, data, .. } => {
                let taken = available(*left);
                data.extend_from_slice(&bytes[..taken]);
                *left -= taken as u64;
                taken
            }
            State::Data { left: 0, padding } => {
                let taken = available(*padding);
                *padding -= taken as u64;
                taken
            }
            State::Data { left, .. } => {
                let taken = available(*left);
                *left -= taken as u64;
                taken
            }
            State::End => {
                if self.index.is_empty() && bytes.iter().any(|byte| *byte != 0) {
                    // Zeros, and then something that is no tar: a disk image, for instance.
                    self.failed = Some(TarError::NotATar);
                }
                bytes.len()
            }
        }
    }

    /// Goes on to the next state where one is complete.
    fn settle(&mut self) -> Result<(), TarError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match &mut self.state {
            State::Header | State::SparseMap { .. } | State::SecondZeros => {
                if self.filled < BLOCK {
                    return Ok(());
                }
                self.filled = 0;
                self.block_is_complete()
            }
            State::Extension { left: 0, kind, header, data } => {
                let (kind, header, data) = (*kind, *header, std::mem::take(data));
                self.state = State::Data { left: 0, padding: padding(data.len() as u64) };
                self.extension_is_complete(kind, header, &data)?;
                self.settle()
            }
            State::Data { left: 0, padding: 0 } => {
                self.state = State::Header;
                Ok(())
            }
            State::Extension { .. } | State::Data { .. } | State::End => Ok(()),
        }
    }

    fn block_is_complete(&mut self) -> Result<(), TarError> {
        let is_zero = self.block.iter().all(|byte| *byte == 0);
        match self.state {
            State::SparseMap { data } => {
                // The last bytes of each block say whether another follows.
                if self.block[504] == 0 {
                    self.member_has_data(data);
                }
                Ok(())
            }
            State::SecondZeros if is_zero => {
                self.state = State::End;
                Ok(())
            }
            State::SecondZeros => Err(TarError::StrayZeros { offset: self.position - 2 * BLOCK as u64 }),
            _ if is_zero => {
                if self.pending.count > 0 {
                    return Err(TarError::Truncated { offset: self.position, member: None });
                }
                self.state = State::SecondZeros;
                Ok(())
            }
            _ => self.header_is_complete(),
        }
    }

    fn header_is_complete(&mut self) -> Result<(), TarError> {
        let offset = self.position - BLOCK as u64;
        let block = *self.block;
        let Some(header) = Header::parse(&block) else {
            let previous = self.last_name();
            return Err(if offset == 0 { TarError::NotATar } else { TarError::Header { offset, previous } });
        };
        let kind = match header.type_flag() {
            b'x' | b'X' => Extension::Pax,
            b'g' => Extension::GlobalPax,
            b'L' => Extension::GnuName,
            b'K' => Extension::GnuLink,
            _ => return self.member_begins(offset, &header),
        };
        let size = number(header.size(), offset, "size")?;
        if size > MAX_EXTENSION_BYTES {
            return Err(TarError::LongExtension { offset, bytes: size });
        }
        self.pending.count += 1;
        if self.pending.count > MAX_EXTENSIONS {
            return Err(TarError::ManyExtensions { offset });
        }
        self.state = State::Extension { kind, header: offset, left: size, data: Vec::new() };
        // One without data is complete already.
        self.settle()
    }

    fn extension_is_complete(&mut self, kind: Extension, offset: u64, data: &[u8]) -> Result<(), TarError> {
        let up_to_nul = || data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let pax = |problem| TarError::Extension { offset, problem };
        match kind {
            Extension::Pax => self.pending.pax.read(data).map_err(pax)?,
            Extension::GlobalPax => {
                self.global.read(data).map_err(pax)?;
                // It belongs to no member, and a tar may end with one.
                self.pending.count -= 1;
            }
            Extension::GnuName => self.pending.gnu_name = Some(up_to_nul()),
            Extension::GnuLink => self.pending.gnu_link = Some(up_to_nul()),
        }
        Ok(())
    }

    fn member_begins(&mut self, offset: u64, header: &Header<'_>) -> Result<(), TarError> {
        let pending = std::mem::take(&mut self.pending);
        let pax = pending.pax.over(&self.global);
        let name = pending.gnu_name.or_else(|| pax.path.cloned()).unwrap_or_else(|| header.name());
        let link = pending.gnu_link.or_else(|| pax.link.cloned()).unwrap_or_else(|| header.link().to_vec());
        let flag = header.type_flag();
        // The size of a link is that of its target, and nobody means one for the others: no data follows.
        let size = match (flag, pax.size) {
            (b'1'..=b'6', _) => 0,
            (_, Some(size)) => within_range(size, offset)?,
            (_, None) => number(header.size(), offset, "size")?,
        };
        let gnu_sparse = flag == b'S';
        if flag != b'V' {
            let kind = kind_of(flag, &name, gnu_sparse || pax.sparse);
            let mode = header.mode().ok_or(TarError::Number { offset, field: "mode" })?;
            let in_header = header.mtime().map(|seconds| Time { seconds, nanos: 0 });
            let mtime = pax.mtime.or(in_header).ok_or(TarError::Number { offset, field: "time" })?;
            self.index.add(NewMember {
                header: offset,
                data: self.position,
                name: &name,
                link: if matches!(kind, MemberKind::Symlink | MemberKind::HardLink) { &link } else { b"" },
                kind,
                mode: (mode & 0o7777).cast_unsigned() as u16,
                uid: id(pax.uid, header.uid(), offset, "user")?,
                gid: id(pax.gid, header.gid(), offset, "group")?,
                mtime,
                size: if kind == MemberKind::File { size } else { 0 },
            })?;
        }
        if gnu_sparse && header.sparse_map_goes_on() {
            self.state = State::SparseMap { data: size };
        } else {
            self.member_has_data(size);
        }
        Ok(())
    }

    fn member_has_data(&mut self, size: u64) {
        self.state = match size {
            0 => State::Header,
            _ => State::Data { left: size, padding: padding(size) },
        };
    }

    fn last_name(&self) -> Option<String> {
        self.index.members().next_back().map(|member| printable(member.path))
    }
}

/// What fills the last block of so many bytes.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn kind_of(flag: u8, name: &[u8], sparse: bool) -> MemberKind {
    match flag {
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::CharacterDevice,
        b'4' => MemberKind::BlockDevice,
        // `D` is GNU's directory that lists its names.
        b'5' | b'D' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        b'M' => MemberKind::Continuation,
        _ if sparse => MemberKind::Sparse,
        // Before POSIX, a slash at the end was all that told a directory.
        0 | b'0' if name.ends_with(b"/") => MemberKind::Directory,
        // POSIX: what is not known is a regular file.
        _ => MemberKind::File,
    }
}

/// A size that can be an offset in a file.
fn number(value: Option<i64>, offset: u64, field: &'static str) -> Result<u64, TarError> {
    let value =
        value.and_then(|value| u64::try_from(value).ok()).ok_or(TarError::Number { offset, field })?;
    within_range(value, offset)
}

fn within_range(size: u64, offset: u64) -> Result<u64, TarError> {
    // Leaves room for the offset and the padding, so that no sum overflows.
    if size > 1 << 62 { Err(TarError::Number { offset, field: "size" }) } else { Ok(size) }
}

fn id(pax: Option<u32>, header: Option<i64>, offset: u64, field: &'static str) -> Result<u32, TarError> {
    pax.or_else(|| header.and_then(|id| u32::try_from(id).ok())).ok_or(TarError::Number { offset, field })
}

#[cfg(test)]
mod tests {
    use stowage_testkit::artifacts::Tar;

    use super::*;

    /// Reads as one who can seek: `step` bytes at a time, and nothing of what may be skipped.
    fn seeking(tar: &[u8], step: usize) -> (Result<TarIndex, TarError>, usize) {
        let (mut indexer, mut at, mut read) = (TarIndexer::new(), 0, 0);
        while at < tar.len() {
            let left = tar.len() - at;
            let skip = (indexer.skippable() as usize).min(left);
            indexer.skip(skip as u64);
            at += skip;
            let bytes = &tar[at..(at + step).min(tar.len())];
            if let Err(error) = indexer.push(bytes) {
                return (Err(error), read);
            }
            at += bytes.len();
            read += bytes.len();
        }
        (indexer.finish(), read)
    }

    #[test]
    fn leaving_the_data_out_makes_no_difference() {
        let members = [("a", 5000), ("b", 0), ("c", 512), ("d", 70_000)];
        let tar =
            members.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, vec![0xff; *bytes], 0o644));
        let mut tar = tar.bytes();
        for tail in [0, 512, 1024, 10_240] {
            tar.resize(tar.len() + tail, 0);
            let mut whole = TarIndexer::new();
            whole.push(&tar).unwrap();
            let whole = whole.finish().unwrap();
            for step in [1, 511, 512, 4096, 1 << 20] {
                let (index, read) = seeking(&tar, step);
                assert_eq!(index.unwrap(), whole, "{step}");
                assert!(step > 4096 || read < 20_000, "{step}: {read}");
            }
        }
    }

    #[test]
    fn a_tar_that_is_cut_off_is_noticed_by_who_seeks() {
        let tar = Tar::new().file("a", vec![0xff; 5000], 0o644).bytes();
        for cut in [513, 3000, 5511] {
            assert!(matches!(seeking(&tar[..cut], 512).0, Err(TarError::Truncated { .. })), "{cut}");
        }
    }
}
