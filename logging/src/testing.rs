//! Standard streams that can't be written, and programs that are started on them: for the tests of every program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it serves tests alone"
)]

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// How long anything may take; a loaded machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// The smallest pipe that the kernel makes.
const PIPE_BYTES: usize = 4096;
/// How large a file may be that has reached its limit: more than any other file that a test's program writes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A stream that can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// Its disk is full.
    Full,
    /// A file as large as the process's limit of file sizes allows.
    AtLimit,
    /// It was closed before the program began.
    Closed,
    /// A pipe that nobody reads any more.
    ReaderGone,
    /// A full pipe that somebody holds and doesn't read.
    ReaderStalls,
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Unwritable {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::AtLimit,
        Self::Closed,
        Self::ReaderGone,
        Self::ReaderStalls,
    ];

    /// A command line of `program` whose `stream` is of this kind; arguments are added to it. The reader that stalls is returned
    /// and must be kept.
    #[must_use]
    pub fn command(self, program: impl AsRef<OsStr>, stream: Stream) -> (Command, Option<PipeReader>) {
        let mut command = Command::new(program.as_ref());
        match self {
            Self::Full => {
                let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
                attach(&mut command, stream, full);
                (command, None)
            }
            Self::AtLimit => {
                let mut command = with_file_size_limit(program, FILE_BYTES_MAX);
                let mut file = File::from(memfd_create(c"log", MFdFlags::empty()).unwrap());
                file.set_len(FILE_BYTES_MAX).unwrap();
                file.seek(SeekFrom::End(0)).unwrap();
                attach(&mut command, stream, file);
                (command, None)
            }
            Self::Closed => {
                let descriptor = if stream == Stream::Stdout { 1 } else { 2 };
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {descriptor}>&-"));
                shell.arg(program.as_ref());
                (shell, None)
            }
            Self::ReaderGone => {
                let (_gone, writer) = pipe();
                attach(&mut command, stream, writer);
                (command, None)
            }
            Self::ReaderStalls => {
                let (reader, mut writer) = pipe();
                writer.write_all(&[b'.'; PIPE_BYTES]).unwrap();
                attach(&mut command, stream, writer);
                (command, Some(reader))
            }
        }
    }
}

/// A command line of `program` that can't make a file larger than this; arguments are added to it.
#[must_use]
pub fn with_file_size_limit(program: impl AsRef<OsStr>, bytes: u64) -> Command {
    let mut shell = Command::new("/bin/sh");
    // The unit of `ulimit -f` is 512 bytes in a POSIX shell.
    let script = format!("ulimit -f {} && exec \"$0\" \"$@\"", bytes / 512);
    shell.arg("-c").arg(script).arg(program.as_ref());
    shell
}

fn pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let size = fcntl(
        writer.as_fd(),
        FcntlArg::F_SETPIPE_SZ(PIPE_BYTES.try_into().unwrap()),
    );
    assert_eq!(size, Ok(PIPE_BYTES.try_into().unwrap()), "the pipe's size");
    (reader, writer)
}

fn attach(command: &mut Command, stream: Stream, target: impl Into<Stdio>) {
    match stream {
        Stream::Stdout => command.stdout(target),
        Stream::Stderr => command.stderr(target),
    };
}

/// A started program, killed when dropped.
#[derive(Debug)]
pub struct Started(Child);

impl Started {
    /// Starts it.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program starts"))
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Waits until it listens on a TCP port of this address, which it chose itself; the kernel knows.
    #[must_use]
    pub fn listens_on(&mut self, ip: Ipv4Addr) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = listening_port(self.0.id(), ip) {
                return (ip, port).into();
            }
            if let Some(status) = self.0.try_wait().unwrap() {
                panic!("it ended with {status} instead of listening on {ip}");
            }
            assert!(Instant::now() < deadline, "it does not listen on {ip}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end as a service manager does, and waits for that.
    #[must_use]
    pub fn terminated(self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.ended()
    }

    /// Waits for its end.
    #[must_use]
    pub fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The port on which a process listens at this address, from the kernel's tables.
fn listening_port(pid: u32, ip: Ipv4Addr) -> Option<u16> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let descriptors: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| Some(entry.path().read_link().ok()?.to_string_lossy().into_owned()))
        .collect();
    let address = format!("{:08X}:", u32::from_ne_bytes(ip.octets()));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.strip_prefix(&address)?, 16).ok()?;
        let ours = descriptors.contains(&format!("socket:[{inode}]"));
        (*state == "0A" && ours).then_some(port)
    })
}

/// A new file that takes everything, for the stream that is not under test.
#[must_use]
pub fn nowhere() -> File {
    OpenOptions::new().write(true).open("/dev/null").unwrap()
}

/// Runs a command that prints and ends, whose arguments are added by `prepare`: a reader that has seen enough is not a
/// failure, and a full disk is one.
///
/// # Panics
/// It ends otherwise.
pub fn prints_for_whoever_reads(program: &str, prepare: impl Fn(&mut Command)) {
    for (kind, code) in [
        (Unwritable::ReaderGone, 0),
        (Unwritable::Closed, 0),
        (Unwritable::Full, 1),
        (Unwritable::AtLimit, 1),
    ] {
        let (mut command, _held) = kind.command(program, Stream::Stdout);
        prepare(&mut command);
        let output = command.stderr(Stdio::piped()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{command:?}, {kind:?}: {errors}"
        );
        assert!(!errors.contains("panic"), "{command:?}, {kind:?}: {errors}");
    }
}

/// Runs a command that fails, whose arguments are added by `prepare`: it exits with its code, whatever becomes of standard
/// error.
///
/// # Panics
/// It ends otherwise.
pub fn fails_with(code: i32, program: &str, prepare: impl Fn(&mut Command)) {
    for kind in Unwritable::ALL {
        let (mut command, _held) = kind.command(program, Stream::Stderr);
        prepare(&mut command);
        let status = Started::spawn(&mut command).ended();
        assert_eq!(status.code(), Some(code), "{command:?}, {kind:?}: {status}");
    }
}

/// Starts `program` with a standard error that is read line by line until one holds `needle`; then the reader goes away.
#[must_use]
pub fn started_until_its_reader_leaves(command: &mut Command, needle: &str) -> Started {
    use std::io::BufRead as _;
    let mut started = Started::spawn(command.stderr(Stdio::piped()));
    let mut lines = std::io::BufReader::new(started.0.stderr.take().expect("a pipe")).lines();
    let found = lines.any(|line| line.is_ok_and(|line| line.contains(needle)));
    assert!(found, "it did not say {needle:?}");
    started
}
