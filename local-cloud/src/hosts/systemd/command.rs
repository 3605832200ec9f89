//! Runs the system's own programs (`ip`, `mount`, `mmdebstrap`), with a search path of its own and nothing else of the
//! caller's environment but what a proxy needs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Where the system's programs are looked for: users' own directories are not among them.
pub(super) const SEARCH_PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// Bytes of a program's complaint that are shown: its last words say why it ended.
const COMPLAINT_BYTES_MAX: usize = 2_000;

/// Why a program of the system did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It could not be started.
    #[error("{line}: {source}")]
    Start {
        line: String,
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{line}: {status}: {complaint}")]
    Failed {
        line: String,
        status: ExitStatus,
        complaint: String,
    },
}

/// The program's file, looked for where the system's programs are.
pub(super) fn find(program: &str, directories: &[&str]) -> Option<PathBuf> {
    directories
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
}

/// A command with the search path set.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", SEARCH_PATH.join(":"))
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a program to its end; what it wrote on standard output.
///
/// # Errors
/// When it can't be started or fails.
pub(super) fn run(program: &str, args: &[&str]) -> Result<String, CommandError> {
    let mut command = command(program);
    command.args(args);
    finish(command, "")
}

/// Runs a prepared command with `input` on its standard input; what it wrote on standard output. The input is not shown in
/// errors: it may hold a secret.
///
/// # Errors
/// When it can't be started or fails.
pub(super) fn finish(mut command: Command, input: &str) -> Result<String, CommandError> {
    let line = line_of(&command);
    let start = |source| CommandError::Start {
        line: line.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on its standard error.
        let _unread = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(CommandError::Failed {
        line,
        status: output.status,
        complaint: last_words(said.trim()).to_owned(),
    })
}

fn line_of(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

fn last_words(text: &str) -> &str {
    let from = text.len().saturating_sub(COMPLAINT_BYTES_MAX);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    from.and_then(|from| text.get(from..)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_line_and_the_last_words() {
        let error = run("sh", &["-c", "echo no way >&2; exit 3"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c") && text.ends_with("no way"), "{text}");
        let error = run("no-such-program-anywhere", &[]).unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }

    #[test]
    fn input_is_read_and_output_returned() {
        assert_eq!(finish(command("cat"), "ä b").unwrap(), "ä b");
        let long = "ä".repeat(COMPLAINT_BYTES_MAX);
        assert!(last_words(&long).len() <= COMPLAINT_BYTES_MAX);
    }
}
