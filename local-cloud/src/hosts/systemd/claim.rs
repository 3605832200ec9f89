//! Which block is whose: a file for each in `/run/tidepool-local-cloud`, with the mark of the cloud that has it. It is the
//! record by which everything of a killed cloud is found, and it goes when the machine reboots, as all of that does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machines::block::Block;
use crate::private_files;

/// Where the claims are.
pub(super) const CLAIMS: &str = "/run/tidepool-local-cloud";

/// What a claim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The mark of the cloud's state directory.
    pub(super) instance: String,
    /// The directory of its machines, where their disks are mounted.
    pub(super) machines: PathBuf,
}

/// Takes a free block, the wanted one if it is free.
///
/// # Errors
/// The disk's; `StorageFull` when all blocks are taken.
pub(super) fn take(claims: &Path, wanted: u8, claim: &Claim) -> io::Result<Block> {
    private_files::create_dir_all(claims)?;
    let text = serde_json::to_vec(claim)?;
    // Linked into place, so that a claim is never seen without its content.
    let draft = claims.join(format!(".{}", claim.instance));
    private_files::create(&draft)?.write_all(&text)?;
    let taken = (0..=u8::MAX).map(|step| Block(wanted.wrapping_add(step)));
    let mut found = Err(io::Error::new(
        io::ErrorKind::StorageFull,
        "all 256 blocks of addresses are taken by other local clouds",
    ));
    for block in taken {
        match std::fs::hard_link(&draft, path(claims, block)) {
            Ok(()) => {
                found = Ok(block);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                found = Err(error);
                break;
            }
        }
    }
    std::fs::remove_file(&draft)?;
    found
}

/// Gives a block back.
///
/// # Errors
/// The disk's.
pub(super) fn give_back(claims: &Path, block: Block) -> io::Result<()> {
    match std::fs::remove_file(path(claims, block)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The blocks that the cloud with this mark has; one, or two when it was killed while it changed.
///
/// # Errors
/// The disk's.
pub(super) fn of_instance(claims: &Path, instance: &str) -> io::Result<Vec<(Block, Claim)>> {
    let entries = match std::fs::read_dir(claims) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let block = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(block) = block.map(Block) else { continue };
        // One that was given back since is nobody's.
        let Ok(text) = std::fs::read(entry.path()) else {
            continue;
        };
        if let Ok(claim) = serde_json::from_slice::<Claim>(&text)
            && claim.instance == instance
        {
            found.push((block, claim));
        }
    }
    Ok(found)
}

fn path(claims: &Path, block: Block) -> PathBuf {
    claims.join(block.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(instance: &str) -> Claim {
        Claim {
            instance: instance.to_owned(),
            machines: PathBuf::from("/somewhere"),
        }
    }

    #[test]
    fn two_clouds_have_two_blocks_and_each_finds_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let one = take(dir.path(), 255, &claim("one")).unwrap();
        let two = take(dir.path(), 255, &claim("two")).unwrap();
        assert_eq!((one, two), (Block(255), Block(0)));
        assert_eq!(of_instance(dir.path(), "two").unwrap(), [(two, claim("two"))]);
        give_back(dir.path(), one).unwrap();
        give_back(dir.path(), one).unwrap();
        assert_eq!(of_instance(dir.path(), "one").unwrap(), []);
        assert_eq!(take(dir.path(), 255, &claim("three")).unwrap(), Block(255));
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "a draft is left");
    }

    #[test]
    fn when_all_are_taken_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for nth in 0..=u8::MAX {
            take(dir.path(), nth, &claim("one")).unwrap();
        }
        let error = take(dir.path(), 7, &claim("two")).unwrap_err();
        assert!(error.to_string().contains("all 256 blocks"), "{error}");
    }
}
