//! Images that the running kernel mounts: as root outside user namespaces, Linux 6.12.2 or newer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stowage_erofs::{Layer, Rules, Selection, TarIndex, TarIndexer, merge, write_image};
use stowage_testkit::namespace::private_mounts;

use crate::harness::chance::Chance;
use crate::harness::fuzz::{self, Plan};
use crate::harness::kernel_log::{KernelLog, is_trouble};
use crate::harness::mounted::Mounted;
use crate::made::Tar;

/// Tars on disk, and the image of their tree.
pub(crate) struct Stage {
    scratch: tempfile::TempDir,
    tars: Vec<PathBuf>,
}

impl Stage {
    pub(crate) fn new(tars: &[Vec<u8>], rules: Rules) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let mut paths = Vec::new();
        for (number, tar) in tars.iter().enumerate() {
            let path = scratch.path().join(format!("{number}.tar"));
            std::fs::write(&path, tar)?;
            paths.push(path);
        }
        let stage = Self { scratch, tars: paths };
        let indexes = stage.tars.iter().map(|tar| index_file(tar)).collect::<Result<Vec<_>>>()?;
        stage.write_image(&indexes, rules)?;
        Ok(stage)
    }

    fn write_image(&self, indexes: &[TarIndex], rules: Rules) -> Result<()> {
        let names: Vec<String> = (0..indexes.len()).map(|number| number.to_string()).collect();
        let layers: Vec<Layer<'_>> =
            indexes.iter().zip(&names).map(|(index, name)| Layer { name, blob: name, index }).collect();
        let tree = merge(&layers, rules, Selection::default())?;
        ensure!(tree.devices().len() == indexes.len(), "each tar of a stage has data");
        write_image(&tree, File::create(self.image())?)?;
        std::fs::create_dir(self.target())?;
        Ok(())
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.scratch.path().join("image.erofs")
    }

    fn target(&self) -> PathBuf {
        self.scratch.path().join("mounted")
    }

    pub(crate) fn blobs(&self) -> Vec<&Path> {
        self.tars.iter().map(AsRef::as_ref).collect()
    }

    /// Runs `look` with the mounted image.
    pub(crate) fn look<T: Send>(&self, look: impl FnOnce(&Path) -> Result<T> + Send) -> Result<T> {
        private_mounts(|| {
            let target = self.target();
            let _mounted = Mounted::files(&self.image(), &self.blobs(), &target)?;
            look(&target)
        })
    }
}

fn index_file(path: &Path) -> Result<TarIndex> {
    let mut indexer = TarIndexer::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(indexer.finish()?),
            bytes => indexer.push(&buffer[..bytes])?,
        }
    }
}

#[test]
fn a_directory_of_many_entries_lists_and_finds_each() {
    const COUNT: usize = 20_000;
    let name = |number: usize| format!("d/{number:05}-{}", "n".repeat(number % 80));
    let tar = (0..COUNT).fold(Tar::new(), |tar, number| tar.file(&name(number), &[number as u8]));
    let stage = Stage::new(&[tar.end()], Rules::Files).unwrap();
    stage
        .look(|root| {
            assert_eq!(std::fs::read_dir(root.join("d"))?.count(), COUNT);
            for number in (0..COUNT).step_by(37) {
                let path = root.join(name(number));
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                assert_eq!(bytes, [number as u8]);
            }
            assert!(!root.join("d/00000-x").exists());
            Ok(())
        })
        .unwrap();
}

#[test]
fn names_of_every_length_and_the_deepest_path_are_found() {
    let mut tar = Tar::new();
    let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for length in 1..=255 {
        let name = "n".repeat(length);
        tar = tar.pax(&[("path", &name)]).file("", &[length as u8; 3]);
        expected.insert(name, vec![length as u8; 3]);
    }
    let deep = format!("{}f", "d/".repeat(63));
    tar = tar.pax(&[("path", &deep)]).file("", b"deep");
    expected.insert(deep, b"deep".to_vec());
    let stage = Stage::new(&[tar.end()], Rules::Files).unwrap();
    stage
        .look(|root| {
            for (path, bytes) in &expected {
                assert_eq!(&std::fs::read(root.join(path)).with_context(|| path.clone())?, bytes);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn layers_point_into_their_own_tars() {
    let layers = [
        Tar::new().file("a", &[1; 3000]).file("b", &[2; 10]).file("gone", b"x").end(),
        Tar::new().file("b", &[3; 5000]).file(".wh.gone", b"").hard_link("c", "a").end(),
        Tar::new().symlink("s", "/a").file("d/e", &[4; 513]).end(),
    ];
    let stage = Stage::new(&layers, Rules::RootFilesystem).unwrap();
    stage
        .look(|root| {
            assert_eq!(std::fs::read(root.join("a"))?, [1; 3000]);
            assert_eq!(std::fs::read(root.join("b"))?, [3; 5000].to_vec());
            assert_eq!(std::fs::metadata(root.join("a"))?.ino(), std::fs::metadata(root.join("c"))?.ino());
            assert_eq!(std::fs::read(root.join("d/e"))?, [4; 513]);
            assert_eq!(std::fs::read_link(root.join("s"))?, Path::new("/a"));
            assert!(!root.join("gone").exists());
            Ok(())
        })
        .unwrap();
}

#[test]
fn symlinks_of_every_length_are_followed_by_the_kernel() {
    let target = |length: usize| ["x/".repeat(length / 2), "y".repeat(length % 2)].concat();
    let mut tar = Tar::new().file("f", b"1");
    let lengths = [1, 2, 399, 447, 448, 449, 512, 513, 1024, 4094, 4095];
    for length in lengths {
        tar = tar.pax(&[("linkpath", &target(length))]).symlink(&format!("l{length}"), "");
    }
    let stage = Stage::new(&[tar.end()], Rules::Files).unwrap();
    stage
        .look(|root| {
            for length in lengths {
                let found = std::fs::read_link(root.join(format!("l{length}")))?;
                assert_eq!(found.to_str(), Some(&*target(length)));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn files_beyond_4_gib_are_read_at_both_ends() {
    const SIZE: u64 = (5 << 30) + 77;
    let header = |name: &str| {
        let tar = Tar::new().member(b'0', name, b"", |header| {
            header[124..136].copy_from_slice(format!("{SIZE:011o}\0").as_bytes());
        });
        tar.0
    };
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("0.tar");
    // Two such files, all but their ends holes of the disk.
    let stride = 512 + SIZE.next_multiple_of(512);
    let mut tar = File::create(&path).unwrap();
    for (name, begins) in [("one", 0), ("two", stride)] {
        tar.seek(SeekFrom::Start(begins)).unwrap();
        tar.write_all(&header(name)).unwrap();
        tar.write_all_at(name.as_bytes(), begins + 512).unwrap();
        tar.write_all_at(name.as_bytes(), begins + 512 + SIZE - 3).unwrap();
    }
    tar.set_len(2 * stride + 1024).unwrap();
    // The reader never looks at data, so zeros will do for them.
    let mut indexer = TarIndexer::new();
    let zeros = vec![0; 1 << 24];
    for name in ["one", "two"] {
        indexer.push(&header(name)).unwrap();
        let mut left = (stride - 512) as usize;
        while left > 0 {
            let piece = left.min(zeros.len());
            indexer.push(&zeros[..piece]).unwrap();
            left -= piece;
        }
    }
    indexer.push(&zeros[..1024]).unwrap();
    let stage = Stage { scratch, tars: vec![path] };
    stage.write_image(&[indexer.finish().unwrap()], Rules::Files).unwrap();
    stage
        .look(|root| {
            for name in ["one", "two"] {
                let file = File::open(root.join(name))?;
                assert_eq!(file.metadata()?.len(), SIZE);
                let mut ends = [[0; 3]; 2];
                file.read_exact_at(&mut ends[0], 0)?;
                file.read_exact_at(&mut ends[1], SIZE - 3)?;
                assert_eq!(ends, [name.as_bytes(); 2], "{name}");
                assert_eq!(file.read_at(&mut ends[0], SIZE)?, 0);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn loop_devices_show_the_same() {
    let tar = Tar::new().file("a", &[7; 5000]).file("b", &[8; 511]).end();
    let stage = Stage::new(&[tar], Rules::Files).unwrap();
    private_mounts(|| {
        let image = Loop::attach(&stage.image())?;
        let blob = Loop::attach(stage.blobs()[0])?;
        let target = stage.target();
        let _mounted = Mounted::mount(&image.0, std::slice::from_ref(&blob.0), &target)?;
        assert_eq!(std::fs::read(target.join("a"))?, [7; 5000].to_vec());
        assert_eq!(std::fs::read(target.join("b"))?, [8; 511]);
        anyhow::Ok(())
    })
    .unwrap();
}

struct Loop(String);

impl Loop {
    fn attach(file: &Path) -> Result<Self> {
        let output = losetup().args(["--read-only", "--find", "--show"]).arg(file).output()?;
        ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = losetup().args(["--detach", &self.0]).status();
    }
}

/// The `PATH` of root may lack the folders of the administrator.
fn losetup() -> Command {
    let mut command = Command::new("losetup");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[test]
fn nothing_can_be_changed() {
    let stage = Stage::new(&[Tar::new().file("a", b"1").end()], Rules::Files).unwrap();
    stage
        .look(|root| {
            let read_only = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem;
            assert!(read_only(&std::fs::write(root.join("a"), b"2").unwrap_err()));
            assert!(read_only(&std::fs::write(root.join("b"), b"2").unwrap_err()));
            assert!(read_only(&std::fs::remove_file(root.join("a")).unwrap_err()));
            Ok(())
        })
        .unwrap();
}

#[test]
fn damaged_tars_make_sound_images_or_none() {
    let scratch = tempfile::tempdir().unwrap();
    // A few dozen mounts, and a limit for a machine that is very busy; the fuzzer goes on where this ends.
    let plan = Plan { seed: 1, time: Duration::from_mins(1), most_runs: 150, mount_every: 3 };
    let done = private_mounts(|| {
        let seeds = fuzz::seeds(&mut Chance::new(1), scratch.path())?;
        fuzz::fuzz(&plan, &seeds, scratch.path())
    });
    let done = done.unwrap();
    assert!(done.mounted > 0, "{done:?}");
}

#[test]
fn the_kernel_log_is_watched() {
    let mut log = KernelLog::from_now_on().unwrap();
    let mark = format!("a test of stowage writes this line, process {}", std::process::id());
    std::fs::write("/dev/kmsg", format!("{mark}\n")).unwrap();
    assert!(log.lines().unwrap().contains(&mark));
    assert!(!is_trouble("erofs (device erofs): mounted with root inode @ nid 40."));
    assert!(!is_trouble("fsck.erofs[11824]: segfault at 7fff1d032000 error 4 in fsck.erofs"));
    assert!(is_trouble("erofs (device loop0): bogus i_mode (0) @ nid 40"));
    assert!(is_trouble("BUG: kernel NULL pointer dereference, address: 0000000000000000"));
}
