//! Files and directories that only their owner may read: the state holds user data, and with it whatever secrets that has.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Makes a directory, and those above it as far as they are missing. One that exists stays as it is.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Makes a directory, or makes one that exists private.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY_MODE))
}

/// Opens an empty file for writing; an older one of that name becomes private, too.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = tidepool_listener::open_regular(path, options().truncate(true))?;
    file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Opens a file to write at its end.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    tidepool_listener::open_regular(path, options().append(true))
}

/// Writes a whole file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    io::Write::write_all(&mut create(path)?, content.as_ref())
}

/// Writes a file that is there whole or not at all; it is on disk when this returns, its name too.
pub(crate) fn write_durably(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = create(&draft)?;
    io::Write::write_all(&mut file, content.as_ref())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).mode(FILE_MODE);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_written_whole_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.pem");
        write_durably(&path, "one").unwrap();
        // As on a full disk, nothing can be written beside it.
        std::fs::create_dir(dir.path().join("root.new")).unwrap();
        write_durably(&path, "two").unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }
}
