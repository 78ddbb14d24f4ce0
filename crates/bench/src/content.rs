//! Files to serve: random ones that lie on the disk, and large ones of holes.

use std::fs::{self, File as FsFile};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use stowage_artifact::{Algorithm, Hasher};
use stowage_testkit::Generated;

use crate::image::File;
use crate::quantity::MIB;

/// Writes `count` files of `size` pseudo-random bytes each; different seeds give different ones.
pub(crate) fn random_files(into: &Path, seed: u64, count: u64, size: u64) -> Result<Vec<(File, PathBuf)>> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    (0..count)
        .map(|index| {
            let path = into.join(format!("{seed}-{index}"));
            let mut out =
                FsFile::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            let content = Generated::new(seed << 32 | index, size);
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut offset = 0;
            while offset < size {
                let chunk = content.read_at(offset, MIB);
                hasher.update(&chunk);
                out.write_all(&chunk).with_context(|| format!("cannot write {}", path.display()))?;
                offset += chunk.len() as u64;
            }
            Ok((File { name: format!("file-{index:05}.bin"), digest: hasher.finish(), size }, path))
        })
        .collect()
}

/// Makes `count` files of zeros that differ in their last bytes only, for each of the sizes, which must rise. They take next to
/// no disk, and the zeros are hashed once for all of them.
pub(crate) fn sparse_files(into: &Path, count: u64, sizes: &[u64]) -> Result<Vec<Vec<(File, PathBuf)>>> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let zeros = vec![0; MIB as usize];
    let (mut hasher, mut hashed) = (Hasher::new(Algorithm::Sha256), 0);
    let mut all = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let body = size.saturating_sub(8);
        while hashed < body {
            let step = MIB.min(body - hashed);
            hasher.update(&zeros[..step as usize]);
            hashed += step;
        }
        let mut files = Vec::new();
        for index in 0..count {
            let tail = (index + 1).to_le_bytes();
            let mut hasher = hasher.clone();
            hasher.update(&tail);
            let path = into.join(format!("{size}-{index}"));
            let out = FsFile::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            out.set_len(size)
                .and_then(|()| out.write_all_at(&tail, body))
                .with_context(|| format!("cannot make {} a file of {size} bytes", path.display()))?;
            files.push((File { name: format!("file-{index}.bin"), digest: hasher.finish(), size }, path));
        }
        all.push(files);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use stowage_artifact::Digest;

    use super::*;

    #[test]
    fn files_have_the_digest_that_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = random_files(directory.path(), 7, 2, MIB + 17).unwrap();
        for sizes in sparse_files(directory.path(), 2, &[MIB, 3 * MIB + 5]).unwrap() {
            files.extend(sizes);
        }
        let mut digests: Vec<_> = files.iter().map(|(file, _)| file.digest.clone()).collect();
        for (file, path) in files {
            let bytes = fs::read(path).unwrap();
            assert_eq!(bytes.len() as u64, file.size);
            assert_eq!(Digest::of(Algorithm::Sha256, &bytes), file.digest);
        }
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 6);
    }
}
