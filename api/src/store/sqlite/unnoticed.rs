//! Looking at files that SQLite writes, so that its writes cost no more for it.
//!
//! The kernel notes in a file when it was read. And where it has shown somebody a file's times, the next write gets a time of its
//! own instead of the last tick's (multigrain timestamps, Linux 6.13). Either is one more change of the file, which the next flush
//! has to bring to the disk with the data: a tenth of what a write costs in all.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Opens a file to be read often, between SQLite's writes.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut unnoticed = options.clone();
        unnoticed.custom_flags(nix::fcntl::OFlag::O_NOATIME.bits());
        match unnoticed.open(path) {
            // Only a file's owner may ask for that.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            opened => return opened,
        }
    }
    options.open(path)
}

/// What a name leads to, without any of its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// How many names it has.
    pub(super) links: u64,
    pub(super) bytes: u64,
}

impl Found {
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Follows links.
    pub(super) fn at(path: &Path) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(found) = Self::without_times(path) {
            return Ok(found);
        }
        let found = std::fs::metadata(path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            links: found.nlink(),
            bytes: found.len(),
        })
    }

    /// `None` where there is nothing, or where it can't be asked like this.
    #[cfg(target_os = "linux")]
    fn without_times(path: &Path) -> Option<Self> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
        let wanted = StatxFlags::INO | StatxFlags::NLINK | StatxFlags::SIZE;
        let found = statx(CWD, path, AtFlags::empty(), wanted).ok()?;
        StatxFlags::from_bits_retain(found.stx_mask)
            .contains(wanted)
            .then(|| Self {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                links: found.stx_nlink.into(),
                bytes: found.stx_size,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_times_the_same_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&file, [0; 70]).unwrap();
        std::fs::hard_link(&file, &other).unwrap();
        let (found, known) = (Found::at(&file).unwrap(), std::fs::metadata(&file).unwrap());
        assert_eq!((found.device, found.inode), (known.dev(), known.ino()));
        assert_eq!((found.links, found.bytes), (2, 70));
        assert_eq!(found, Found::at(&other).unwrap());
        let gone = Found::at(&dir.path().join("c")).unwrap_err();
        assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    }
}
