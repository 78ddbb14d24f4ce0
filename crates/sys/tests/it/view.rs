//! An EROFS view over two tars, in a stage of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stowage_erofs::{Layer, Rules, Selection, TarIndexer, merge, write_image};
use stowage_sys::{Attached, Detached, ErofsBacking, ErofsOptions, MountError, Target};
use stowage_testkit::namespace::private_mounts;

use crate::stage::{APIS, Stage};

/// Both must show the same.
pub(crate) const BACKINGS: [ErofsBacking; 2] = [ErofsBacking::File, ErofsBacking::Loop];

/// A file of the first tar, of several MiB, and not a multiple of any block.
pub(crate) const WEIGHTS: &str = "models/weights.bin";
/// A file of the second tar.
pub(crate) const CONFIG: &str = "models/config.json";

pub(crate) struct View {
    pub(crate) stage: Stage,
    pub(crate) image: PathBuf,
    pub(crate) tars: Vec<PathBuf>,
}

impl View {
    pub(crate) fn new() -> Self {
        let stage = Stage::new(APIS[0]);
        let contents = [
            tar(&[(WEIGHTS, &weights()), ("first", &[1; 512])]),
            tar(&[(CONFIG, b"{}"), ("odd", &[2; 513])]),
        ];
        let tars = [stage.path("store/0.tar"), stage.path("store/1.tar")];
        for (path, content) in tars.iter().zip(&contents) {
            std::fs::write(path, content).unwrap();
        }
        let image = stage.path("store/image.erofs");
        std::fs::write(&image, image_of(&[&contents[0], &contents[1]])).unwrap();
        Self { stage, image, tars: tars.into() }
    }

    pub(crate) fn mount(&self, options: &ErofsOptions<'_>) -> Result<Detached, MountError> {
        self.stage.mounter.erofs(&self.image, &self.tars, options)
    }

    pub(crate) fn publish(&self, backing: ErofsBacking, name: &str) -> (Target, Attached) {
        let target = self.stage.target(name);
        let attached = self.mount(&ErofsOptions::new(backing)).unwrap().attach(&target).unwrap();
        (target, attached)
    }

    /// The loop devices that show files of this view: their directories in sysfs.
    pub(crate) fn loop_devices(&self) -> Vec<PathBuf> {
        loop_devices(&self.stage)
    }

    pub(crate) fn assert_no_loop_device_stays(&self) {
        assert_no_loop_device_shows(&self.stage);
    }
}

/// The loop devices that show files of a stage's store: their directories in sysfs.
pub(crate) fn loop_devices(stage: &Stage) -> Vec<PathBuf> {
    let store = stage.path("store");
    let devices = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    let ours = |device: &PathBuf| {
        // A device that is free, or was freed this moment, has no such file.
        let file = std::fs::read_to_string(device.join("loop/backing_file"));
        file.is_ok_and(|file| Path::new(&file).starts_with(&store))
    };
    devices.filter(ours).collect()
}

/// The kernel frees them a moment after the last unmount.
pub(crate) fn assert_no_loop_device_shows(stage: &Stage) {
    let until = Instant::now() + Duration::from_secs(10);
    while !loop_devices(stage).is_empty() {
        assert!(Instant::now() < until, "{:?} stay", loop_devices(stage));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a body once for each backing, with a view of its own each time.
#[expect(clippy::print_stderr, reason = "shown only when the test fails: which of the two it was")]
pub(crate) fn each_backing(body: impl Fn(&View, ErofsBacking) + Sync) {
    for backing in BACKINGS {
        eprintln!("--- {backing}");
        private_mounts(|| body(&View::new(), backing));
    }
}

/// No two blocks of it are the same.
pub(crate) fn weights() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take((5 << 20) + 123).collect()
}

/// The metadata image of these tars, whose devices are the tars in this order.
pub(crate) fn image_of(tars: &[&[u8]]) -> Vec<u8> {
    image_with(tars, tars.len())
}

/// An image that needs no devices: of empty files.
pub(crate) fn image_alone(files: &[&str]) -> Vec<u8> {
    let empty: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &[][..])).collect();
    image_with(&[&tar(&empty)], 0)
}

fn image_with(tars: &[&[u8]], with_data: usize) -> Vec<u8> {
    let index = |tar: &[u8]| {
        let mut indexer = TarIndexer::new();
        indexer.push(tar).unwrap();
        indexer.finish().unwrap()
    };
    let indexes: Vec<_> = tars.iter().map(|tar| index(tar)).collect();
    let names: Vec<String> = (0..tars.len()).map(|number| number.to_string()).collect();
    let layers: Vec<_> =
        indexes.iter().zip(&names).map(|(index, name)| Layer { name, blob: name, index }).collect();
    let tree = merge(&layers, Rules::Files, Selection::default()).unwrap();
    let devices: Vec<_> = tree.devices().iter().map(|device| device.blob).collect();
    assert_eq!(devices, names[..with_data], "each tar has data, or none has");
    let mut image = Vec::new();
    write_image(&tree, &mut image).unwrap();
    image
}

/// A tar of regular files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000001750\0");
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// An image of one file, and the tar that holds the file's bytes.
pub(crate) fn small() -> (Vec<u8>, Vec<u8>) {
    let tar = tar(&[("file", &[7; 513])]);
    (image_of(&[&tar]), tar)
}

/// Writes a file below a directory, and the directories above it.
pub(crate) fn put(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::io::Write::write_all(&mut File::create(path).unwrap(), content).unwrap();
}
