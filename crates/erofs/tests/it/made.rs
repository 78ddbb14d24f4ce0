//! Tars put together by hand, for what no producer would make, and short names for tests.

use stowage_erofs::{EntryKind, Layer, MergeError, Rules, Selection, TarError, TarIndex, Tree, merge};

use crate::harness::fuzz::index_in_pieces;
use crate::harness::mutate::seal;

/// A tar that grows. Owners are 0, modes 0644, times 1000, unless a test sets them.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A member with a header changed by `edit` before its checksum is made.
    pub(crate) fn member(mut self, flag: u8, name: &str, data: &[u8], edit: impl FnOnce(&mut [u8])) -> Self {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[136..148].copy_from_slice(format!("{:011o}\0", 1000).as_bytes());
        header[156] = flag;
        header[257..265].copy_from_slice(b"ustar\x0000");
        edit(&mut header);
        seal(&mut header);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(b'0', name, data, |_| {})
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.member(b'5', name, b"", |header| header[100..108].copy_from_slice(b"0000755\0"))
    }

    pub(crate) fn link(self, flag: u8, name: &str, target: &str) -> Self {
        self.member(flag, name, b"", |header| {
            header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(b'2', name, target)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(b'1', name, target)
    }

    /// A pax header for the next member.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        self.member(b'x', "pax", &pax_data(&records), |_| {})
    }

    /// The tar with its end mark.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(crate) fn index(self) -> TarIndex {
        index(&self.end()).unwrap()
    }
}

pub(crate) fn pax_data(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    data
}

pub(crate) fn index(tar: &[u8]) -> Result<TarIndex, TarError> {
    index_in_pieces(tar, || usize::MAX)
}

/// Merges and shows the tree; layers are called `0`, `1`, …
pub(crate) fn merged(tars: &[Tar], rules: Rules) -> Result<Vec<String>, MergeError> {
    merged_and(tars, rules, Selection::default(), shown)
}

pub(crate) fn merged_and<T>(
    tars: &[Tar],
    rules: Rules,
    selection: Selection<'_>,
    look: impl FnOnce(&Tree<'_>) -> T,
) -> Result<T, MergeError> {
    let indexes: Vec<_> = tars.iter().map(|tar| tar.clone().index()).collect();
    let names: Vec<String> = (0..tars.len()).map(|number| number.to_string()).collect();
    let layers: Vec<Layer<'_>> =
        indexes.iter().zip(&names).map(|(index, name)| Layer { name, blob: name, index }).collect();
    merge(&layers, rules, selection).map(|tree| look(&tree))
}

/// A line for each entry: `a/` a directory, `a -> b` a symlink, `a=3@0` a file of three bytes in tar 0, `x2` with two names.
pub(crate) fn shown(tree: &Tree<'_>) -> Vec<String> {
    let entries = tree.entries().map(|(path, entry)| {
        let path = String::from_utf8_lossy(&path).into_owned();
        match entry.kind {
            EntryKind::Directory { .. } => format!("{path}/"),
            EntryKind::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
            EntryKind::File { device, size, .. } => {
                let tar = device.map_or("-", |device| tree.devices()[device].blob);
                let names = if entry.links == 1 { String::new() } else { format!(" x{}", entry.links) };
                format!("{path}={size}@{tar}{names}")
            }
        }
    });
    entries.collect()
}
