//! One header block.

use super::number;

/// The 512 bytes before each member.
pub(super) struct Header<'a>(&'a [u8; 512]);

/// Who wrote a header, as far as it decides what the fields behind the magic mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V7,
    Posix,
    Gnu,
    Star,
}

impl<'a> Header<'a> {
    /// The header, when its checksum is right.
    pub(super) fn parse(block: &'a [u8; 512]) -> Option<Self> {
        const CHECKSUM: std::ops::Range<usize> = 148..156;
        // Its own field counts as spaces.
        const SPACES: i64 = 8 * b' ' as i64;
        let expected = number::parse(&block[CHECKSUM])?;
        let unsigned = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        if i64::from(unsigned(block) - unsigned(&block[CHECKSUM])) + SPACES == expected {
            return Some(Self(block));
        }
        // Some old tars added signed bytes.
        let signed = |bytes: &[u8]| bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
        (signed(block) - signed(&block[CHECKSUM]) + SPACES == expected).then_some(Self(block))
    }

    fn dialect(&self) -> Dialect {
        match &self.0[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] if &self.0[508..512] == b"tar\0" => Dialect::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Posix,
            _ => Dialect::V7,
        }
    }

    /// The name, joined with the prefix where the dialect has one.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.dialect() {
            Dialect::Posix => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub(super) fn link(&self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number::parse(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number::parse(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number::parse(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<i64> {
        number::parse(&self.0[124..136])
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number::parse(&self.0[136..148])
    }

    /// Whether a GNU header of a sparse file is followed by blocks with the rest of its map.
    pub(super) fn sparse_map_goes_on(&self) -> bool {
        self.0[482] != 0
    }
}

/// The bytes of a field up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}
