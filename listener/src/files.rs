//! Files that an operator names, or that a state directory holds: only regular ones, and only so much of them. A FIFO without
//! a writer would hang who opens it, and a device has no end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a regular file, without waiting for anybody at its other end.
///
/// # Errors
/// Those of the disk, and [`io::ErrorKind::InvalidInput`] for what is not a regular file.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // It has no effect on regular files.
    match options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(not_regular()),
        // A FIFO that nobody reads is refused to who writes, in words that explain nothing.
        Err(_) if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) => Err(not_regular()),
        Err(error) => Err(error),
    }
}

/// The whole of a regular file of at most so many bytes.
///
/// # Errors
/// Those of [`open_regular`], and [`io::ErrorKind::FileTooLarge`].
pub fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// Those of [`read_bytes`], and [`io::ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let bytes = read_bytes(path, bytes_max)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        let error = read_text(&path, 3).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 3 bytes");
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(
            read_text(&path, 3).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(
            read_text(&dir.path().join("none"), 3).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_bytes(&link, 3).unwrap(), [0xff]);
    }

    /// If it hung, the whole test would.
    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&fifo, Path::new("/dev/zero"), Path::new("/dev/null"), dir.path()] {
            let error = read_bytes(path, 3).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
            let error = open_regular(path, OpenOptions::new().append(true).create(true)).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
        }
    }
}
