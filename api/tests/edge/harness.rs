//! Starts servers and talks to them byte by byte.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longest time that a test waits for anything that should happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A command line of the program, with an environment that holds no settings.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidepool-api"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEPOOL_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Polls until the condition holds.
pub(crate) fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
    /// The public listener.
    pub(crate) public: SocketAddr,
    /// The operations listener.
    pub(crate) ops: SocketAddr,
}

/// A folder with an SQLite file's address.
pub(crate) struct Folder {
    pub(crate) dir: TempDir,
    pub(crate) store: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", dir.path().join("tide.db").display());
        Self { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key.
    pub(crate) fn key(&self, name: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["keys", "create", "--store", &self.store, "--name", name];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        let output = run(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim_end().to_owned()
    }
}

impl Server {
    /// Starts on free ports of loopback and waits until it listens.
    pub(crate) fn start(folder: &Folder, more: &[&str]) -> Self {
        let mut server = Self::spawn(folder, "127.0.0.1:0", more);
        server.ops = server.wait_for_address("operations listening");
        server.public = server.wait_for_address("listening");
        server
    }

    /// Starts without waiting for anything.
    pub(crate) fn spawn(folder: &Folder, listen: &str, more: &[&str]) -> Self {
        let mut command = program(&["serve", "--store", &folder.store, "--listen", listen]);
        command.args(["--ops-listen", "127.0.0.1:0", "--log-format", "json"]);
        Self::spawn_command(command.args(more))
    }

    pub(crate) fn spawn_command(command: &mut Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            child,
            log,
            reader,
            public: nowhere,
            ops: nowhere,
        }
    }

    /// The address in the log line with that message.
    pub(crate) fn wait_for_address(&mut self, message: &str) -> SocketAddr {
        self.wait_for_address_within(message, SOON)
    }

    pub(crate) fn wait_for_address_within(&mut self, message: &str, within: Duration) -> SocketAddr {
        let wanted = format!("\"message\":\"{message}\"");
        let deadline = Instant::now() + within;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(&wanted)) {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                return line["address"].as_str().unwrap().parse().unwrap();
            }
            if let Some(ended) = self.child.try_wait().unwrap() {
                self.wait_for_the_whole_log();
                panic!("the server ended with {ended:?}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "no line {message:?} in:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The most memory that the process has had resident, in KiB.
    pub(crate) fn resident_kib_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until what the process has written before its end is in the log.
    fn wait_for_the_whole_log(&self) {
        wait_until("the end of the log", SOON, || self.reader.is_finished());
    }

    /// Waits for the end, after which the log is whole; how long the end took.
    pub(crate) fn wait(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let took = began.elapsed();
                self.wait_for_the_whole_log();
                return (status, took);
            }
            assert!(
                began.elapsed() < within,
                "still running after {within:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A request on a connection of its own.
    pub(crate) fn send(&self, method: &str, path: &str, key: Option<&str>, body: Option<&str>) -> Answer {
        Connection::open(self.public).request(method, path, key, body)
    }

    /// A GET of the operations listener.
    pub(crate) fn ops_get(&self, path: &str) -> Answer {
        Connection::open(self.ops).request("GET", path, None, None)
    }

    /// The value of one series of `/metrics`; `None` if it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.ops_get("/metrics").text();
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The last part of the problem's type.
    pub(crate) fn problem(&self) -> String {
        let body = self.json();
        let uri = body["type"].as_str().unwrap_or_default().to_owned();
        uri.trim_start_matches("urn:tidepool:problem:").to_owned()
    }
}

/// One connection, with a bound on every wait.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, SOON).unwrap();
        stream.set_read_timeout(Some(SOON + SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn write(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Writes, unless the server has closed.
    pub(crate) fn write_if_open(&mut self, bytes: &str) {
        let _closed = self.stream.get_mut().write_all(bytes.as_bytes());
    }

    /// Closes our half: nothing more will be sent.
    pub(crate) fn end(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Sends a whole request and reads its answer; the connection stays open.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&str>,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(key) = key {
            text.push_str(&format!("Authorization: Bearer {key}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        self.write(&text);
        self.read_answer(method == "HEAD")
    }

    pub(crate) fn read_answer(&mut self, head: bool) -> Answer {
        self.try_read_answer(head).expect("an answer")
    }

    /// `None` if the connection was closed instead.
    pub(crate) fn try_read_answer(&mut self, head: bool) -> Option<Answer> {
        let mut line = String::new();
        if !matches!(self.stream.read_line(&mut line), Ok(1..)) {
            return None;
        }
        let mut words = line.split_whitespace();
        let version = words.next().unwrap().to_owned();
        let status: u16 = words.next().unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let mut body = Vec::new();
        let bodiless = head || status < 200 || status == 204 || status == 304;
        match headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
        {
            _ if bodiless => {}
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body).unwrap();
            }
            None => {
                self.stream.read_to_end(&mut body).unwrap();
            }
        }
        Some(Answer {
            version,
            status,
            headers,
            body,
        })
    }

    /// Whether the server has closed within the time, and how long that took. What it still sent is thrown away.
    pub(crate) fn closed_within(&mut self, within: Duration) -> Option<Duration> {
        let began = Instant::now();
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(within)).unwrap();
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Some(began.elapsed()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(began.elapsed()),
            Err(_) => None,
        }
    }
}

/// Writes a file in the folder and gives its path as text.
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
