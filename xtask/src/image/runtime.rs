//! A root file system like that of a distroless image with a C library: Debian 12 by debootstrap, and of it the files of a few
//! packages, without documentation, without a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::image::beneath;
use crate::tools;

/// What distroless `cc` has that our program can make use of.
const PACKAGES: [&str; 3] = ["libc6", "libgcc-s1", "ca-certificates"];
const RELEASE: &str = "bookworm";
/// What a package has besides what runs; administrators' programs are scripts for a shell that is not there.
const LEFT_OUT: [&str; 7] = [
    "/usr/sbin",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/lintian",
    "/usr/share/locale",
];
/// Links of a merged /usr, by which the program finds its loader.
const LINKS: [&str; 2] = ["/lib", "/lib64"];
/// Made from the package's certificates when it is set up.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where a container engine or the chart mounts something.
const MOUNT_POINTS: [&str; 9] =
    ["/proc", "/sys", "/dev", "/run", "/csi", "/registration", "/etc/stowage", "/var/lib/kubelet", "/root"];

/// Makes the root anew; Debian itself only once.
pub(super) fn root(folder: &Path) -> Result<PathBuf> {
    let debian = debian(folder)?;
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    fs::create_dir_all(root.join("usr")).with_context(|| format!("cannot create {}", root.display()))?;
    for link in LINKS {
        copy(&debian, &root, link)?;
    }
    for package in PACKAGES {
        for path in files(&debian, package)? {
            let source = beneath(&debian, Path::new(&path));
            let seen = source.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir());
            if seen && !LEFT_OUT.iter().any(|out| path.starts_with(out)) {
                copy(&debian, &root, &path)?;
            }
        }
    }
    copy(&debian, &root, BUNDLE)?;
    for path in MOUNT_POINTS {
        let path = beneath(&root, Path::new(path));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    command::quiet(Command::new("install").args(["--directory", "--mode=1777"]).arg(root.join("tmp")))?;
    let write = |path: &str, text: &str| {
        let file = beneath(&root, Path::new(path));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    write(
        "/etc/passwd",
        "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n",
    )?;
    write("/etc/group", "root:x:0:\nnonroot:x:65532:\n")?;
    write("/etc/nsswitch.conf", "hosts: files dns\n")?;
    write("/etc/hosts", "127.0.0.1 localhost\n")?;
    ensure!(!root.join("usr/bin").exists(), "the root has programs");
    Ok(root)
}

/// Debian 12 with its certificate authorities.
fn debian(folder: &Path) -> Result<PathBuf> {
    let (debian, done) = (folder.join("debian"), folder.join("debian.done"));
    if done.is_file() {
        return Ok(debian);
    }
    if debian.exists() {
        fs::remove_dir_all(&debian).with_context(|| format!("cannot empty {}", debian.display()))?;
    }
    let mirror = tools::debian_mirror()?;
    println!("==> debootstrap {RELEASE}");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=ca-certificates", RELEASE]).arg(&debian).arg(mirror);
    command::quiet(&mut debootstrap)?;
    fs::write(&done, RELEASE).with_context(|| format!("cannot write {}", done.display()))?;
    Ok(debian)
}

/// The paths that a package brought.
fn files(debian: &Path, package: &str) -> Result<Vec<String>> {
    let lists = debian.join("var/lib/dpkg/info");
    let entries = fs::read_dir(&lists).with_context(|| format!("cannot read {}", lists.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", lists.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let of = name.strip_suffix(".list").map(|name| name.split_once(':').map_or(name, |(name, _)| name));
        if of == Some(package) {
            return Ok(command::read(&entry.path())?.lines().map(str::to_owned).collect());
        }
    }
    anyhow::bail!("debootstrap brought no {package}")
}

/// Copies one file or link to the same place.
fn copy(from: &Path, to: &Path, path: &str) -> Result<()> {
    let target = merged(beneath(to, Path::new(path)), to);
    let parent = target.parent().context("every file lies in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--no-target-directory"]).arg(beneath(from, Path::new(path))).arg(target);
    command::quiet(&mut copy)
}

/// The path as a merged /usr has it: packages still say `/lib/…`.
fn merged(path: PathBuf, root: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(inner) if inner.starts_with("lib") || inner.starts_with("lib64") => {
            match inner.components().count() {
                1 => path,
                _ => root.join("usr").join(inner),
            }
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_packages_go_where_a_merged_usr_has_them() {
        let root = Path::new("/r");
        let at = |path: &str| merged(beneath(root, Path::new(path)), root);
        assert_eq!(at("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/r/usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(at("/lib64/ld-linux-x86-64.so.2"), Path::new("/r/usr/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(at("/lib"), Path::new("/r/lib"));
        assert_eq!(at("/etc/gai.conf"), Path::new("/r/etc/gai.conf"));
    }
}
