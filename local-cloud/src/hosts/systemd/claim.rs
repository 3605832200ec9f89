//! Which block is whose: a file for each in `/run/tidepool-local-cloud`, with the mark of the cloud that has it. It is the
//! record by which everything of a killed cloud is found, and it goes when the machine reboots, as all of that does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidepool_listener::FileLock;

use crate::machines::block::Block;
use crate::private_files;
use crate::state::dir::StateDir;

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

/// A block that this process has, for as long as it lives: its claim's file is locked.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) block: Block,
    /// Whoever has it may use the block, or remove what is left in it.
    _lock: FileLock,
}

/// Takes a free block, the wanted one if it is free.
///
/// # Errors
/// The disk's; `StorageFull` when all blocks are taken.
pub(super) fn take(claims: &Path, wanted: u8, claim: &Claim) -> io::Result<Taken> {
    private_files::create_dir_all(claims)?;
    let text = serde_json::to_vec(claim)?;
    // Linked into place, so that a claim is never seen without its content, and its lock.
    let draft = claims.join(format!(".{}", claim.instance));
    let lock = FileLock::take(private_files::create(&draft)?)?;
    lock.file().write_all(&text)?;
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
    found.map(|block| Taken { block, _lock: lock })
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
    let mut found = all(claims)?;
    found.retain(|(_, claim)| claim.instance == instance);
    Ok(found)
}

/// The blocks that nobody has and nobody will ever ask for, with their locks: their clouds don't run, and the state directories
/// that had their marks are gone.
///
/// # Errors
/// The disk's.
pub(super) fn abandoned(claims: &Path) -> io::Result<Vec<(Block, Claim, FileLock)>> {
    let unwanted = all(claims)?.into_iter().filter(|(_, claim)| !claim.is_wanted());
    let locked = unwanted.filter_map(|(block, claim)| {
        let lock = locked(claims, (block, &claim), |file| FileLock::take(file).ok())?;
        Some((block, claim, lock))
    });
    Ok(locked.collect())
}

/// The lock of a claim whose cloud is dead; waits for whoever else removes what it left. `None` when it is gone then.
pub(super) fn lock_of_dead(claims: &Path, (block, claim): (Block, &Claim)) -> Option<FileLock> {
    locked(claims, (block, claim), |file| FileLock::wait(file).ok())
}

/// Locks a claim's file, and looks whether it is still this claim's.
fn locked(
    claims: &Path,
    (block, claim): (Block, &Claim),
    lock: impl Fn(File) -> Option<FileLock>,
) -> Option<FileLock> {
    let path = path(claims, block);
    let file = tidepool_listener::open_regular(&path, OpenOptions::new().read(true)).ok()?;
    let lock = lock(file)?;
    let (ours, there) = (lock.file().metadata().ok()?, std::fs::metadata(&path).ok()?);
    let same = (ours.dev(), ours.ino()) == (there.dev(), there.ino());
    (same && read(&path).as_ref() == Some(claim)).then_some(lock)
}

fn read(path: &Path) -> Option<Claim> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl Claim {
    /// Whether the state directory is there, with this mark: whoever serves from it next sweeps what is left.
    fn is_wanted(&self) -> bool {
        let state = self.machines.parent().map(StateDir::new);
        state.is_some_and(|state| state.was_served_as(&self.instance))
    }
}

fn all(claims: &Path) -> io::Result<Vec<(Block, Claim)>> {
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
        found.extend(read(&entry.path()).map(|claim| (block, claim)));
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
        assert_eq!((one.block, two.block), (Block(255), Block(0)));
        assert_eq!(
            of_instance(dir.path(), "two").unwrap(),
            [(two.block, claim("two"))]
        );
        give_back(dir.path(), one.block).unwrap();
        give_back(dir.path(), one.block).unwrap();
        assert_eq!(of_instance(dir.path(), "one").unwrap(), []);
        let three = take(dir.path(), 255, &claim("three")).unwrap();
        assert_eq!(three.block, Block(255));
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "a draft is left");
    }

    /// By whoever starts next, wherever.
    #[test]
    fn a_claim_is_abandoned_when_its_cloud_is_dead_and_its_state_directory_gone() {
        let (claims, states) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = StateDir::new(states.path());
        let own = Claim {
            instance: state.instance().unwrap(),
            machines: state.hosts(),
        };
        let abandoned = || {
            let found = abandoned(claims.path()).unwrap().into_iter();
            found.map(|(block, claim, _)| (block, claim)).collect::<Vec<_>>()
        };
        let taken = take(claims.path(), 7, &own).unwrap();
        assert_eq!(abandoned(), []);
        // Its directory was removed while it runs.
        std::fs::remove_file(states.path().join("instance")).unwrap();
        assert_eq!(abandoned(), []);
        let block = taken.block;
        drop(taken);
        assert_eq!(abandoned(), [(block, own.clone())]);
        // Killed, and its directory there: the next one there finds it.
        std::fs::write(states.path().join("instance"), &own.instance).unwrap();
        assert_eq!(abandoned(), []);
        // Another cloud is served from there now.
        std::fs::write(states.path().join("instance"), "another").unwrap();
        assert_eq!(abandoned(), [(block, own)]);
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
