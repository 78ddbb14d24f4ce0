//! Files of which no more is read than they may hold, whatever somebody has put in their place.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// The content of the file at `path`, which has at most `most` bytes; blocks for a moment.
///
/// # Errors
/// What the system says, or [`ErrorKind::FileTooLarge`] where the file has more.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let sentence = format!("it has more than {most} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, sentence));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_file_may_hold() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().to_string(), "it has more than 4 bytes");
        // One that has no end.
        assert_eq!(read(Path::new("/dev/zero"), 1 << 20).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&directory.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
