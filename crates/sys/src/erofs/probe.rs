//! One mount at start shows what the version of the kernel cannot: modules, privileges, the filesystem of the store.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::source::Source;
use super::support::{ErofsBackingChoice, ErofsSupport, direct_io_is_sound};
use super::{ErofsBacking, ErofsOptions, mount};
use crate::detached::{Detached, Form, MountError, Mounter};
use crate::file::descriptor_path;
use crate::kernel::{KernelVersion, has_filesystem};

/// A small view to try. Its files are made in `directory` and have lost their names before anything is mounted.
#[derive(Debug, Clone, Copy)]
pub struct ErofsProbe<'a> {
    /// The bytes of an image.
    pub image: &'a [u8],
    /// The bytes of its devices. With one, the probe also finds out whether data can be read, not only names.
    pub devices: &'a [&'a [u8]],
    /// A directory on the filesystem that will hold the real ones: not every filesystem can back a mount.
    pub directory: &'a Path,
}

/// A probe that failed, on its way into a sentence.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("the files of a trial mount cannot be read: {0}")]
    Read(io::Error),
}

impl Mounter {
    /// Finds out how EROFS views can be mounted here: by the kernel's version, then by a trial mount that nobody sees.
    pub fn probe_erofs(&self, probe: &ErofsProbe<'_>, choice: ErofsBackingChoice) -> ErofsSupport {
        let kernel = match KernelVersion::running() {
            Ok(kernel) => kernel,
            Err(error) => return ErofsSupport::none(error.to_string()),
        };
        let by_version = ErofsSupport::of_kernel(kernel, has_filesystem("erofs"));
        let wanted = match choice {
            ErofsBackingChoice::Auto => by_version.backing,
            ErofsBackingChoice::File => Some(ErofsBacking::File),
            ErofsBackingChoice::Loop => Some(ErofsBacking::Loop),
            ErofsBackingChoice::None => {
                return ErofsSupport::none("EROFS is turned off by the configuration".to_owned());
            }
        };
        let Some(wanted) = wanted else { return by_version };
        if self.is_legacy() {
            return ErofsSupport::none(format!("this kernel ({kernel}) has no detached mounts"));
        }
        let files = match Files::write(probe) {
            Ok(files) => files,
            Err(error) => {
                let directory = probe.directory.display();
                return ErofsSupport::none(format!("cannot write a small image in {directory}: {error}"));
            }
        };
        match (files.try_backing(wanted), wanted) {
            (Ok(()), ErofsBacking::File) => {
                let direct_io = direct_io_is_sound(kernel);
                ErofsSupport { backing: Some(wanted), direct_io, why: None }
            }
            (Ok(()), ErofsBacking::Loop) => ErofsSupport::only_loop(match choice {
                ErofsBackingChoice::Loop => "the configuration asks for loop devices".to_owned(),
                _ => by_version.why.unwrap_or_default(),
            }),
            (Err(error), ErofsBacking::File) if choice == ErofsBackingChoice::Auto => files.fall_back(&error),
            (Err(error), _) => ErofsSupport::none(format!("a trial mount by {wanted} fails: {error}")),
        }
    }
}

struct Files {
    image: Source,
    devices: Vec<Source>,
}

impl Files {
    fn write(probe: &ErofsProbe<'_>) -> io::Result<Self> {
        let devices = probe.devices.iter().map(|bytes| unnamed(probe.directory, bytes));
        Ok(Self {
            image: unnamed(probe.directory, probe.image)?,
            devices: devices.collect::<Result<_, _>>()?,
        })
    }

    fn fall_back(&self, from_file: &ProbeError) -> ErofsSupport {
        match self.try_backing(ErofsBacking::Loop) {
            Ok(()) => ErofsSupport::only_loop(format!("a trial mount by file fails: {from_file}")),
            Err(from_loop) => ErofsSupport::none(format!(
                "trial mounts fail, by file: {from_file}; by loop device: {from_loop}"
            )),
        }
    }

    fn try_backing(&self, backing: ErofsBacking) -> Result<(), ProbeError> {
        let options = ErofsOptions::new(backing);
        let mounted = mount(&self.image, &self.devices, &options)?;
        read_all(&mounted).map_err(ProbeError::Read)
    }
}

/// Reads every file in the root directory.
fn read_all(mounted: &Detached) -> io::Result<()> {
    let root = match mounted.form() {
        Form::Tree(root) => PathBuf::from(descriptor_path(root)),
        Form::Staged(staged) => staged.path().to_owned(),
    };
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// A file that goes when it is closed.
fn unnamed(directory: &Path, bytes: &[u8]) -> io::Result<Source> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".erofs-probe-{}-{number}", std::process::id()));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(bytes)?;
    Ok(Source::unnamed(file, path))
}
