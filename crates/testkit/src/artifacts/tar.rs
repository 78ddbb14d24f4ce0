//! Tars, written member by member and the same every time.

/// Bytes of a block, of which headers and contents are made.
const BLOCK: usize = 512;
/// Bytes of the name in a header; longer ones go to a GNU `L` member before.
const NAME: usize = 100;

/// A tar in ustar's format, with GNU's long names where they are needed.
#[derive(Clone, Debug, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// A tar without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tar of ordinary files.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        files.into_iter().fold(Self::new(), |tar, (path, content)| tar.file(path, content, 0o644))
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.member(b'0', path, "", content.as_ref(), mode)
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.member(b'5', path, "", &[], 0o755)
    }

    /// Adds a symlink to `target`.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.member(b'2', path, target, &[], 0o777)
    }

    /// Adds a hard link to the earlier member `target`.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.member(b'1', path, target, &[], 0o644)
    }

    /// Adds a FIFO.
    #[must_use]
    pub fn fifo(self, path: &str) -> Self {
        self.member(b'6', path, "", &[], 0o644)
    }

    /// Adds the whiteout that removes `name` from `directory`, the root when empty (image-spec layer.md, "Whiteouts").
    #[must_use]
    pub fn whiteout(self, directory: &str, name: &str) -> Self {
        let separator = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{separator}.wh.{name}"), "", 0o644)
    }

    /// Adds the whiteout that removes everything of earlier layers from `directory`.
    #[must_use]
    pub fn opaque(self, directory: &str) -> Self {
        self.whiteout(directory, ".wh..opq")
    }

    /// Adds a member of any kind, for what no honest producer writes.
    #[must_use]
    pub fn member(mut self, kind: u8, path: &str, target: &str, content: &[u8], mode: u32) -> Self {
        for (long_kind, text) in [(b'L', path), (b'K', target)] {
            if text.len() > NAME {
                let mut bytes = text.as_bytes().to_vec();
                bytes.push(0);
                self.push(long_kind, "././@LongLink", "", &bytes, 0o644);
            }
        }
        self.push(kind, path, target, content, mode);
        self
    }

    fn push(&mut self, kind: u8, path: &str, target: &str, content: &[u8], mode: u32) {
        let mut header = [0_u8; BLOCK];
        put(&mut header, 0, NAME, path.as_bytes());
        put(&mut header, 100, 8, format!("{mode:07o}").as_bytes());
        put(&mut header, 108, 8, b"0000000");
        put(&mut header, 116, 8, b"0000000");
        put(&mut header, 124, 12, format!("{:011o}", content.len()).as_bytes());
        put(&mut header, 136, 12, b"14553075431");
        put(&mut header, 148, 8, b"        ");
        header[156] = kind;
        put(&mut header, 157, NAME, target.as_bytes());
        put(&mut header, 257, 8, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// The tar, with the two empty blocks at its end.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, room: usize, bytes: &[u8]) {
    let length = bytes.len().min(room);
    header[at..at + length].copy_from_slice(&bytes[..length]);
}
