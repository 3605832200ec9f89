//! What a run of the demo left behind, recognised by the run's own directory in command lines.

use std::path::Path;

/// Command lines of living processes that name `dir`.
pub(crate) fn left_behind(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let commands = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let bytes = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
    });
    commands.filter(|command| command.contains(dir)).collect()
}
