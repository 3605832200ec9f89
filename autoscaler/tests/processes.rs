//! The real program: its files under attack, and its signals.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A busy machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon whose provider closes every connection; killed at the end.
struct Daemon {
    child: Child,
    status: SocketAddr,
    log: PathBuf,
    calls: Arc<AtomicUsize>,
    _dir: TempDir,
}

/// A provider that closes every connection without a word, and counts them.
fn silent_provider(calls: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.77.4.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::clone(calls);
    std::thread::spawn(move || {
        for _call in listener.incoming() {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    });
    address
}

impl Daemon {
    fn start(ulimit: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A port that was free a moment ago, on an address that nobody else listens on.
        let free = |address: &str| TcpListener::bind(address).unwrap().local_addr().unwrap();
        let status = free("127.77.4.1:0");
        let calls = Arc::new(AtomicUsize::new(0));
        let provider = silent_provider(&calls);
        let config = format!(
            r#"
                tick_secs = 1
                state_dir = "{}"
                metrics = "scrape"
                status.listen = "{status}"
                digitalocean = {{ base_url = "http://{provider}", token_env = "TOKEN" }}
                [[pool]]
                name = "api"
                min = 1
                max = 2
                digitalocean = {{ region = "fra1", size = "s-1vcpu-1gb", image = "host" }}
                policy = [{{ preset = "cpu", target = 0.5 }}]
            "#,
            dir.path().join("state").display()
        );
        let (file, log) = (dir.path().join("autoscaler.toml"), dir.path().join("log"));
        std::fs::write(&file, config).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("{ulimit} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_tidepool-autoscaler"))
            .args(["run", "--log-format", "json", "--config"])
            .arg(&file)
            .env("TOKEN", "any")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self {
            child,
            status,
            log,
            calls,
            _dir: dir,
        };
        daemon.until("the status port answers", || daemon.answers());
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.status) else {
            return false;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.contains(" 200 ")
    }

    /// Calls to the provider: at least one each tick.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn half_sent_requests_on_the_status_port_leave_the_ticks_their_files() {
    let daemon = Daemon::start("ulimit -n 200");
    let hoard: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(daemon.status).unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: local").unwrap();
            stream
        })
        .collect();
    let before = daemon.calls();
    daemon.until("ticks go on", || daemon.calls() > before + 3);
    let log = daemon.log();
    assert!(!log.contains("Too many open files"), "{log}");
    drop(hoard);
    daemon.until("the status port answers again", || daemon.answers());
}

#[test]
fn a_hangup_changes_nothing() {
    let mut daemon = Daemon::start("true");
    daemon.signal("-HUP");
    daemon.until("it says so", || daemon.log().contains("nothing to reload"));
    assert!(daemon.answers());
    daemon.signal("-TERM");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{}", daemon.log());
}

#[test]
fn the_service_manager_is_told_once_the_status_port_answers() {
    let dir = tempfile::tempdir().unwrap();
    let status = TcpListener::bind("127.77.4.3:0").unwrap().local_addr().unwrap();
    let config = format!(
        "state_dir = {:?}\nmetrics = \"scrape\"\nstatus.listen = \"{status}\"\npool = []\n",
        dir.path().join("state")
    );
    let (file, socket) = (dir.path().join("autoscaler.toml"), dir.path().join("notify"));
    std::fs::write(&file, config).unwrap();
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = dir.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_tidepool-autoscaler"))
        .args(["run", "--config"])
        .arg(&file)
        .env("NOTIFY_SOCKET", &socket)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut daemon = Daemon {
        child,
        status,
        log,
        calls: Arc::default(),
        _dir: dir,
    };
    let mut state = [0; 64];
    let length = manager.recv(&mut state).unwrap();
    assert_eq!(state.get(..length), Some(&b"READY=1"[..]));
    assert!(daemon.answers());
    daemon.signal("-TERM");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{}", daemon.log());
}
