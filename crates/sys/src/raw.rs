//! The bare system calls that rustix and nix lack. Nothing here decides anything.
#![expect(unsafe_code, reason = "system calls without a safe wrapper elsewhere")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Number of statmount(2), the same on every architecture that Rust builds for.
const SYS_STATMOUNT: libc::c_long = 457;

fn check(outcome: libc::c_long) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `mount_setattr`(2) on the mount that `mount` is the root of.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, clear: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
    // SAFETY: the descriptor is open for the whole call, the path is a NUL-terminated literal, and the kernel reads
    // `size_of::<mount_attr>()` bytes from a live local of that type.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Whether the kernel knows `mount_setattr`(2) and lets us call it.
pub(crate) fn has_mount_setattr() -> bool {
    // SAFETY: a descriptor of -1 and a null structure of size 0 are refused before anything is read.
    let outcome = check(unsafe {
        libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<libc::mount_attr>(), 0)
    });
    is_known(&outcome)
}

/// Whether the error of a call with senseless arguments comes from the call itself and not from its absence.
pub(crate) fn is_known(outcome: &io::Result<()>) -> bool {
    // A seccomp filter answers ENOSYS or EPERM for what it does not allow.
    !matches!(outcome, Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)))
}

/// The fixed part of the answer of statmount(2) and its strings, as the kernel lays them out.
pub(crate) struct Statmount {
    words: [u64; Self::WORDS],
}

impl Statmount {
    /// 512 bytes of fields, 512 of strings: only the filesystem's type is asked for.
    const WORDS: usize = 128;
    const STRINGS: usize = 512;

    pub(crate) const SUPERBLOCK: u64 = 0x1;
    pub(crate) const MOUNT: u64 = 0x2;
    pub(crate) const FS_TYPE: u64 = 0x20;

    pub(crate) fn mask(&self) -> u64 {
        self.words[1]
    }

    pub(crate) fn superblock_flags(&self) -> u32 {
        self.half(32)
    }

    pub(crate) fn mount_id(&self) -> u64 {
        self.half(56).into()
    }

    pub(crate) fn parent_id(&self) -> u64 {
        self.half(60).into()
    }

    pub(crate) fn attributes(&self) -> u64 {
        self.words[8]
    }

    pub(crate) fn fs_type(&self) -> String {
        let offset = self.half(36) as usize;
        let strings =
            self.words.iter().skip(Self::STRINGS / 8 + offset / 8).flat_map(|word| word.to_ne_bytes());
        let name: Vec<u8> = strings.skip(offset % 8).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    /// The 32-bit field at this byte offset of the structure.
    fn half(&self, offset: usize) -> u32 {
        let word = self.words[offset / 8].to_ne_bytes();
        let at = offset % 8;
        u32::from_ne_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]])
    }
}

/// statmount(2) of a mount in our namespace, named by its unique id (`STATX_MNT_ID_UNIQUE`).
pub(crate) fn statmount(unique_id: u64) -> io::Result<Statmount> {
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount_id: u64,
        mask: u64,
    }
    let request = Request {
        size: size_of::<Request>() as u32,
        spare: 0,
        mount_id: unique_id,
        mask: Statmount::SUPERBLOCK | Statmount::MOUNT | Statmount::FS_TYPE,
    };
    let mut answer = Statmount { words: [0; Statmount::WORDS] };
    // SAFETY: the request is a live local of the size it states; the kernel writes at most the given number of bytes
    // into the array, every pattern of which is a valid value.
    check(unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            answer.words.as_mut_ptr(),
            size_of_val(&answer.words),
            0,
        )
    })?;
    Ok(answer)
}

/// `sync_file_range(2)`.
pub(crate) fn sync_file_range(
    file: BorrowedFd<'_>,
    offset: u64,
    length: u64,
    flags: libc::c_uint,
) -> io::Result<()> {
    let signed = |number: u64| i64::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let (offset, length) = (signed(offset)?, signed(length)?);
    // SAFETY: no pointers; the descriptor is open for the whole call.
    check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) }.into())
}

/// `FS_IOC_ENABLE_VERITY` with SHA-256 and blocks of 4 KiB, no salt, no signature.
pub(crate) fn enable_verity(file: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Argument {
        version: u32,
        hash_algorithm: u32,
        block_size: u32,
        salt_size: u32,
        salt: u64,
        signature_size: u32,
        reserved: u32,
        signature: u64,
        reserved_tail: [u64; 11],
    }
    const _: () = assert!(size_of::<Argument>() == 128);
    let argument = Argument {
        version: 1,
        hash_algorithm: 1,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        reserved_tail: [0; 11],
    };
    let request = nix::request_code_write!(b'f', 133, size_of::<Argument>());
    // SAFETY: the argument is a live local of exactly the size that the request number states.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw const argument) }.into())
}

/// `LOOP_CTL_GET_FREE`: the number of a loop device that was free a moment ago, made now if need be.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    // SAFETY: the request takes no argument; the descriptor is open for the whole call.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// `LOOP_CONFIGURE` (5.8): the device shows `file` in blocks of 512 bytes, read-only, until its last user closes it.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
    const READ_ONLY: u32 = 1;
    const AUTOCLEAR: u32 = 4;
    /// `struct loop_info64`; what is not named here stays 0.
    #[repr(C)]
    struct Info {
        numbers: [u64; 5],
        number_and_encryption: [u32; 3],
        flags: u32,
        names_and_key: [u8; 160],
        init: [u64; 2],
    }
    #[repr(C)]
    struct Config {
        fd: u32,
        block_size: u32,
        info: Info,
        reserved: [u64; 8],
    }
    const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);
    let config = Config {
        fd: file.as_raw_fd().cast_unsigned(),
        block_size: 512,
        info: Info {
            numbers: [0; 5],
            number_and_encryption: [0; 3],
            flags: READ_ONLY | AUTOCLEAR,
            names_and_key: [0; 160],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the argument is a live local of the type that this request reads; both descriptors are open for the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }.into())
}

/// unshare(2) of the calling thread.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: callers pass namespace flags only, never CLONE_FILES or CLONE_VM, so no descriptor or memory that another
    // thread counts on goes away. Async-signal-safe: one system call.
    check(unsafe { libc::unshare(flags) }.into())
}

/// Makes every mount of the calling thread's namespace private. Async-signal-safe: one system call.
pub(crate) fn make_all_private() -> io::Result<()> {
    // SAFETY: the strings are NUL-terminated literals; a change of propagation reads neither source, type nor data.
    check(
        unsafe {
            libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            )
        }
        .into(),
    )
}

/// Writes the whole of `text` with one write(2), as the files of `/proc` demand. Async-signal-safe: three system calls.
pub(crate) fn write_proc(path: &std::ffi::CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: the path is NUL-terminated and outlives the call.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(file.into())?;
    // SAFETY: the descriptor was opened above; the pointer and length are those of a live slice.
    let written = check(unsafe { libc::write(file, text.as_ptr().cast(), text.len()) } as libc::c_long);
    // SAFETY: the descriptor was opened above and is closed once.
    unsafe { libc::close(file) };
    written
}

/// Runs `hook` in the child between fork and exec.
///
/// # Safety
/// The hook must be async-signal-safe: no allocation, no locks.
pub(crate) unsafe fn before_exec(
    command: &mut std::process::Command,
    hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    use std::os::unix::process::CommandExt;
    // SAFETY: our caller promises what `pre_exec` demands.
    unsafe { command.pre_exec(hook) };
}
