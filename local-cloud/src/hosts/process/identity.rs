//! Who a process is. A pid alone says nothing: it may have been given to somebody else since. A process is ours when it
//! started when we noted that it did, or when it carries our mark in its environment (Linux).

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The variable that every process of a machine inherits: which local cloud it belongs to.
pub(crate) const INSTANCE_VARIABLE: &str = "TIDEPOOL_LOCAL_CLOUD_INSTANCE";
/// The variable that says which machine it belongs to; its name is older than machines that are no droplets.
pub(crate) const MACHINE_VARIABLE: &str = "TIDEPOOL_LOCAL_CLOUD_DROPLET";

/// When the process started, in the kernel's own count; `None` when there is no such process (or only its remains).
#[cfg(target_os = "linux")]
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in brackets and may hold anything; the numbers begin after the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let process_state = fields.next()?;
    if process_state == "Z" || process_state == "X" {
        return None;
    }
    // `starttime` is field 22; the state was field 3.
    fields.nth(18)?.parse().ok()
}

/// When the process started, as a hash of what `ps` says.
#[cfg(not(target_os = "linux"))]
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let out = std::process::Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    if text.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Some(hasher.finish())
}

/// Living processes that carry the instance's mark, with the machine they belong to.
#[cfg(target_os = "linux")]
pub(crate) fn marked(instance: &str) -> BTreeMap<i32, u64> {
    let instance_mark = format!("{INSTANCE_VARIABLE}={instance}");
    let machine_mark = format!("{MACHINE_VARIABLE}=");
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return found;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else {
            continue;
        };
        let mut variables = environment.split(|byte| *byte == 0);
        if !variables
            .clone()
            .any(|variable| variable == instance_mark.as_bytes())
        {
            continue;
        }
        let machine = variables
            .find_map(|variable| {
                std::str::from_utf8(variable)
                    .ok()?
                    .strip_prefix(&machine_mark)?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if start_time(pid).is_some() {
            found.insert(pid, machine);
        }
    }
    found
}

/// Elsewhere the environment of a process can't be read: pid files alone count.
#[cfg(not(target_os = "linux"))]
pub(crate) fn marked(_instance: &str) -> BTreeMap<i32, u64> {
    BTreeMap::new()
}

/// Sends a signal to the group that the process leads, if the process is still the one that started then.
pub(crate) fn signal_group(pid: i32, started: u64, signal: Signal) -> bool {
    start_time(pid) == Some(started) && killpg(Pid::from_raw(pid), signal).is_ok()
}

/// Ends one process at once. The caller has just seen that it is ours.
pub(crate) fn kill_one(pid: i32) {
    // It may have ended in between: then there is nothing to do.
    let _already_gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
}
