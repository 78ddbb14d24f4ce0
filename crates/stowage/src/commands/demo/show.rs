//! What the demo prints, and what it checks before it prints it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use stowage_artifact::{Digest, Hasher, Source};
use stowage_volumes::{Resolved, human_bytes};

use super::samples::Sample;
use super::stage::{Shown, Stage};
use crate::tree::Tree;

const LINES: usize = 40;

pub(crate) fn opening(stage: &Stage) {
    say!("Stowage demo: artifacts in a registry become read-only volumes, over CSI, with nothing unpacked");
    say!("  registry   http://{} (embedded)", stage.registry.host());
    say!(
        "  CSI        {} (the node plugin, registered with a kubelet of the demo's own)",
        stage.socket().display()
    );
    say!("  mounts in  {}", stage.place);
}

pub(crate) fn resolved(expected: &Resolved, attributes: &[(&'static str, &'static str)]) {
    for (key, value) in attributes {
        say!("  with       {key}: {value}");
    }
    say!("  reference  {}", expected.reference);
    say!("  resolved   {}", expected.digest);
    if expected.manifest_digest != expected.digest {
        say!("  chosen     {}", expected.manifest_digest);
    }
    say!("  family     {}", expected.plan.family);
}

/// Draws the volume as it is mounted, and compares every file with its digest: the manifest's, or what was put in a tar.
pub(crate) fn tree(target: &Path, expected: &Resolved, sample: &Sample) -> anyhow::Result<()> {
    let mut tree = Tree::default();
    let mut checked = 0;
    for (path, digest) in &sample.members {
        let file = target.join(path);
        let found = digest_of(&file, digest)?;
        ensure!(found == *digest, "{path} reads as {found} in the volume, and {digest} was put in the tar");
        checked += 1;
        let bytes = file.metadata()?.len();
        tree.add(path, format!("{}  {}… ok", human_bytes(bytes), &digest.to_string()[..19]));
    }
    for (path, entry) in expected.plan.layout.entries() {
        let Source::Raw(digest) = &entry.source else { bail!("{path} is not a plain blob") };
        let found = digest_of(&target.join(path.as_str()), digest)?;
        ensure!(found == *digest, "{path} reads as {found} in the volume, the manifest says {digest}");
        checked += 1;
        tree.add(path.as_str(), format!("{}  {}… ok", human_bytes(entry.size), &digest.to_string()[..19]));
    }
    say!("  volume     {}", target.display());
    for line in tree.lines("             ", LINES) {
        say!("{line}");
    }
    let whose =
        if sample.members.is_empty() { "to the manifest's digests" } else { "to those of the tars' members" };
    say!("  digests    {checked} files read in the volume, all equal {whose}");
    Ok(())
}

fn digest_of(path: &Path, like: &Digest) -> anyhow::Result<Digest> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Hasher::new(like.algorithm());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Tries to write, as a container would.
pub(crate) fn read_only(target: &Path) -> anyhow::Result<()> {
    match std::fs::write(target.join("intruder"), "x") {
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            say!("  read-only  a write fails: {error}");
            Ok(())
        }
        Err(error) => bail!("a write fails for another reason than a read-only volume: {error}"),
        Ok(()) => bail!("the volume can be written"),
    }
}

pub(crate) fn timing(cold: &Shown, warm: &Shown, disk: u64, bytes: u64) {
    let milliseconds = |shown: &Shown| shown.elapsed.as_secs_f64() * 1000.0;
    say!("  published  cold {:.1} ms, warm {:.1} ms", milliseconds(cold), milliseconds(warm));
    say!(
        "  disk       {} more for {} of files ({:.3})",
        human_bytes(disk),
        human_bytes(bytes),
        disk as f64 / bytes as f64
    );
}

/// Bytes of all files below a directory.
pub(crate) fn bytes_of(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() { open.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    Ok(bytes)
}

/// `disk` counts blocks, `bytes` what the files hold.
pub(crate) fn closing(disk: u64, bytes: u64) {
    say!(
        "\nstore: {} on the disk for {} of blobs and manifests ({:.3}); volumes are mounts of these files, not copies",
        human_bytes(disk),
        human_bytes(bytes),
        disk as f64 / bytes as f64
    );
}
