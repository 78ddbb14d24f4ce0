//! Against other people's programs: GNU tar, bsdtar and Python make the tars, erofs-utils checks the images.

use std::path::Path;
use std::process::Command;

use stowage_erofs::Rules;
use stowage_testkit::tools::{Tool, needed_by};

use crate::erofs_mounts::Stage;
use crate::harness::chance::Chance;
use crate::harness::model;
use crate::harness::producers::Producer;
use crate::made::Tar;

/// The first of erofs-utils that can check small blocks with a checksum: 1.5 knows no small blocks, 1.8 crashes.
const EROFS_UTILS: (u32, u32) = (1, 9);

/// What `STOWAGE_SKIP` calls the tests of this module.
const GROUP: &str = "erofs-tools";

/// A random tree, packed by a program, must come out of the mount as it went in.
fn volumes_equal_trees(producers: &[Producer]) {
    let utils = Utils::find();
    for producer in producers {
        if needed_by(GROUP, producer.program()).is_none() {
            return;
        }
        for seed in 0..4 {
            let mut tree = model::random(&mut Chance::new(seed), 80, producer.bounds());
            // A file with bytes, so that there is a device.
            let file = tree[&b""[..]].clone();
            let what = model::What::File(b"bytes".to_vec());
            tree.insert(b"zz".to_vec(), model::Item { what, mode: 0o640, ..file });
            let scratch = tempfile::tempdir().unwrap();
            let (directory, tar) = (scratch.path().join("tree"), scratch.path().join("tar"));
            std::fs::create_dir(&directory).unwrap();
            model::put_on_disk(&tree, &directory).unwrap();
            producer.pack(&directory, &tar).unwrap();
            let stage = Stage::new(&[std::fs::read(&tar).unwrap()], Rules::RootFilesystem).unwrap();
            let found = stage.look(model::read_back).unwrap();
            let differences = model::differences(&model::as_volume(&tree), &found);
            assert!(differences.is_empty(), "{producer:?}, seed {seed}: {differences:#?}");
            if let Some(utils) = &utils {
                utils.check(&stage);
            }
        }
    }
}

#[test]
fn gnu_tar_packs_what_the_volume_shows() {
    volumes_equal_trees(&Producer::GNU_TAR);
}

#[test]
fn bsdtar_packs_what_the_volume_shows() {
    volumes_equal_trees(&Producer::BSD_TAR);
}

#[test]
fn python_packs_what_the_volume_shows() {
    volumes_equal_trees(&Producer::PYTHON);
}

/// The programs of erofs-utils.
struct Utils {
    fsck: Tool,
    dump: Tool,
}

impl Utils {
    fn find() -> Option<Self> {
        let utils = Self { fsck: needed_by(GROUP, "fsck.erofs")?, dump: needed_by(GROUP, "dump.erofs")? };
        for tool in [&utils.fsck, &utils.dump] {
            let said = run(Command::new(tool.path()).arg("-V"));
            let too_old = "which knows no small blocks: run `cargo xtask tools`";
            assert!(version(&said) >= Some(EROFS_UTILS), "{} is {said}, {too_old}", tool.path().display());
        }
        Some(utils)
    }

    /// Checks an image, and that its blocks are as small as they must be.
    fn check(&self, stage: &Stage) {
        let device = |blob: &&Path| format!("--device={}", blob.display());
        let devices: Vec<String> = stage.blobs().iter().map(device).collect();
        run(Command::new(self.fsck.path()).args(&devices).arg(stage.image()));
        let said = run(Command::new(self.dump.path()).arg("-s").args(&devices).arg(stage.image()));
        assert!(said.contains("Filesystem blocksize:                         512"), "{said}");
    }
}

/// The first number with a dot: 1.9 of `fsck.erofs (erofs-utils) 1.9.4`.
fn version(said: &str) -> Option<(u32, u32)> {
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.split('.').map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    })
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn erofs_utils_find_images_of_every_shape_sound() {
    let Some(utils) = Utils::find() else { return };
    let many = (0..3000).fold(Tar::new(), |tar, number| tar.file(&format!("d/{number}"), b"x"));
    let deep = Tar::new().file(&format!("{}f", "d/".repeat(49)), &[1; 2000]);
    let (name, target) = ("n".repeat(255), "t".repeat(4000));
    let long =
        Tar::new().pax(&[("path", &name)]).file("", b"1").pax(&[("linkpath", &target)]).symlink("l", "");
    let device = |n: u8| Tar::new().file(&format!("f{n}"), &vec![n; 100 * usize::from(n + 1)]);
    let shapes = [
        ("one file", vec![Tar::new().file("a", b"1")]),
        ("a full block", vec![Tar::new().file("a", &[1; 512]).file("b", &[2; 1024])]),
        ("many entries", vec![many]),
        ("deep", vec![deep]),
        ("long names", vec![long]),
        ("links", vec![Tar::new().file("a", b"1").hard_link("b", "a").symlink("c", "a").directory("d")]),
        ("devices", (0..20).map(device).collect()),
    ];
    for (what, tars) in shapes {
        println!("{what}");
        let tars: Vec<_> = tars.into_iter().map(Tar::end).collect();
        utils.check(&Stage::new(&tars, Rules::Files).unwrap());
    }
}

#[test]
fn erofs_utils_read_the_bytes_of_files() {
    let Some(utils) = Utils::find() else { return };
    let tar = Tar::new().file("a/b", b"the bytes").end();
    let stage = Stage::new(&[tar], Rules::Files).unwrap();
    let out = tempfile::tempdir().unwrap();
    let extracted = out.path().join("extracted");
    let device = format!("--device={}", stage.blobs()[0].display());
    let extract = format!("--extract={}", extracted.display());
    run(Command::new(utils.fsck.path()).args([extract, device]).arg(stage.image()));
    assert_eq!(std::fs::read(extracted.join(Path::new("a/b"))).unwrap(), b"the bytes");
}
