//! The mount table of the calling thread's namespace (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `thread-self`, because a thread may live in a mount namespace of its own.
const TABLE: &str = "/proc/thread-self/mountinfo";

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id; used again once the mount is gone.
    pub mount_id: u64,
    /// The id of the mount that it is mounted on.
    pub parent_id: u64,
    /// Major and minor number of the superblock's device.
    pub device: (u32, u32),
    /// The directory of the filesystem that is the root of this mount.
    pub root: PathBuf,
    /// Where it is mounted, seen from the root of the process.
    pub mount_point: PathBuf,
    /// Options of this mount alone, such as `ro,nosuid`.
    pub mount_options: String,
    /// Propagation, such as `shared:7`; empty for a private mount.
    pub propagation: Vec<String>,
    /// `ext4`, `overlay`, `fuse.sshfs`.
    pub fs_type: String,
    /// What was given as the device; any text.
    pub source: OsString,
    /// Options of the superblock, such as `rw,lowerdir=…`.
    pub superblock_options: OsString,
}

/// The mount table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MountTableError {
    /// The file itself.
    #[error("cannot read the mount table {TABLE}: {0}")]
    Read(#[source] io::Error),
    /// A line that is not in the form of mountinfo.
    #[error("the mount table has a line that is not understood ({reason}): {line}")]
    Line {
        /// Which part is missing or wrong.
        reason: &'static str,
        /// The line, lossily decoded.
        line: String,
    },
}

impl MountEntry {
    /// Whether this mount alone refuses writes; a container runtime can clear that.
    pub fn readonly(&self) -> bool {
        self.mount_options.split(',').any(|option| option == "ro")
    }

    /// Whether the whole filesystem refuses writes, through every mount of it.
    pub fn superblock_readonly(&self) -> bool {
        self.superblock_options.as_bytes().split(|byte| *byte == b',').any(|option| option == b"ro")
    }

    fn parse(line: &[u8]) -> Result<Self, MountTableError> {
        let error =
            |reason| MountTableError::Line { reason, line: String::from_utf8_lossy(line).into_owned() };
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = |name| fields.next().ok_or_else(|| error(name));
        let mount_id = number(next("mount id")?).ok_or_else(|| error("mount id"))?;
        let parent_id = number(next("parent id")?).ok_or_else(|| error("parent id"))?;
        let device = device(next("device")?).ok_or_else(|| error("device"))?;
        let root = PathBuf::from(unescape(next("root")?));
        let mount_point = PathBuf::from(unescape(next("mount point")?));
        let mount_options = text(next("mount options")?);
        let mut propagation = Vec::new();
        loop {
            match next("separator")? {
                b"-" => break,
                field => propagation.push(text(field)),
            }
        }
        let fs_type = text(next("filesystem type")?);
        let source = unescape(next("source")?);
        let superblock_options = unescape(next("superblock options")?);
        Ok(Self {
            mount_id,
            parent_id,
            device,
            root,
            mount_point,
            mount_options,
            propagation,
            fs_type,
            source,
            superblock_options,
        })
    }
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// Undoes the kernel's `\ooo`; a backslash that starts no such escape stands for itself.
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (*first, octal(tail)) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            (byte, _) => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = digits else { return None };
    Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
}

/// Reads a table in the form of `/proc/<pid>/mountinfo`.
pub fn parse_mount_table(table: &[u8]) -> Result<Vec<MountEntry>, MountTableError> {
    table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(MountEntry::parse).collect()
}

/// Every mount of the calling thread's namespace, in the order of mounting.
pub fn mount_table() -> Result<Vec<MountEntry>, MountTableError> {
    parse_mount_table(&std::fs::read(TABLE).map_err(MountTableError::Read)?)
}

/// Every mount at `path` or below it; symlinks in `path` are resolved first, as the table knows none.
pub fn mounts_beneath(path: &Path) -> Result<Vec<MountEntry>, MountTableError> {
    let resolved = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut entries = mount_table()?;
    entries.retain(|entry| entry.mount_point.starts_with(&resolved));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_the_manual_is_read() {
        let line =
            b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:9 - ext3 /dev/root ro,errors=continue\n";
        let table = parse_mount_table(line).unwrap();
        let entry = &table[0];
        assert_eq!((entry.mount_id, entry.parent_id, entry.device), (36, 35, (98, 0)));
        assert_eq!(entry.root, Path::new("/mnt1"));
        assert_eq!(entry.mount_point, Path::new("/mnt 2"));
        assert_eq!(entry.propagation, ["master:1", "shared:9"]);
        assert_eq!((entry.fs_type.as_str(), entry.source.to_str()), ("ext3", Some("/dev/root")));
        assert!(!entry.readonly());
        assert!(entry.superblock_readonly());
    }

    #[test]
    fn escapes_are_undone_once_and_only_where_they_are_escapes() {
        for (escaped, plain) in [
            (&b"a\\040b"[..], &b"a b"[..]),
            (b"a\\011\\012\\043\\134", b"a\t\n#\\"),
            (b"\\134040", b"\\040"),
            (b"\\04", b"\\04"),
            (b"\\999", b"\\999"),
            (b"\\777", b"\\777"),
            (b"\\", b"\\"),
            (b"\\377", b"\xff"),
            (b"", b""),
        ] {
            assert_eq!(unescape(escaped).as_bytes(), plain, "{}", String::from_utf8_lossy(escaped));
        }
    }

    #[test]
    fn an_option_that_only_contains_ro_is_not_read_only() {
        let line = b"1 0 0:1 / / rw,errors=remount-ro - ext4 none rw,errors=remount-ro,rootcontext=ro_t";
        let entry = MountEntry::parse(line).unwrap();
        assert!(!entry.readonly());
        assert!(!entry.superblock_readonly());
    }

    #[test]
    fn broken_lines_are_errors_that_name_the_part() {
        for (line, part) in [
            (&b"x 0 0:1 / / rw - ext4 none rw"[..], "mount id"),
            (b"1 0 01 / / rw - ext4 none rw", "device"),
            (b"1 0 0:1 / / rw shared:1 ext4 none rw", "separator"),
            (b"1 0 0:1 / / rw - ext4", "source"),
        ] {
            match MountEntry::parse(line) {
                Err(MountTableError::Line { reason, .. }) => assert_eq!(reason, part),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the kernel does (`mangle` in `fs/proc_namespace.c`): these five bytes become octal.
    fn escape(plain: &[u8]) -> Vec<u8> {
        plain.iter().fold(Vec::new(), |mut out, byte| {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => out.extend(format!("\\{byte:03o}").bytes()),
                other => out.push(*other),
            }
            out
        })
    }

    proptest! {
        #[test]
        fn any_path_and_source_survive_the_table(
            point in prop::collection::vec(1_u8.., 1..80),
            root in prop::collection::vec(1_u8.., 1..40),
            source in prop::collection::vec(1_u8.., 1..40),
            ids in any::<(u32, u32, u32, u32)>(),
            shared in prop::collection::vec("(shared|master):[0-9]{1,4}", 0..3),
        ) {
            let mut line = format!("{} {} {}:{} ", ids.0, ids.1, ids.2, ids.3).into_bytes();
            line.extend(escape(&root));
            line.push(b' ');
            line.extend(escape(&point));
            line.extend(b" rw,relatime");
            for field in &shared {
                line.extend(format!(" {field}").bytes());
            }
            line.extend(b" - overlay ");
            line.extend(escape(&source));
            line.extend(b" ro,lowerdir=/a:/b\n");
            let table = parse_mount_table(&line).unwrap();
            prop_assert_eq!(table.len(), 1);
            prop_assert_eq!(table[0].mount_point.as_os_str().as_bytes(), &point[..]);
            prop_assert_eq!(table[0].root.as_os_str().as_bytes(), &root[..]);
            prop_assert_eq!(table[0].source.as_bytes(), &source[..]);
            prop_assert_eq!(&table[0].propagation, &shared);
            prop_assert_eq!(table[0].mount_id, u64::from(ids.0));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_mount_table(&bytes);
        }
    }
}
