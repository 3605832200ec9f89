//! Child processes, and what the operating system says of their CPU time and memory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How long a server may take to listen: Cassandra's schema changes are in it.
const START_SECS_MAX: u64 = 60;
/// Clock ticks of `/proc/PID/stat` a second, fixed on Linux.
const TICKS_PER_SEC: f64 = 100.0;

/// A server of ours; killed, by its process id, when dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ServerProcess {
    /// Starts the program with `arguments` and waits until it listens on `address`.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[String],
        address: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log_file = std::fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(START_SECS_MAX);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                anyhow::bail!(
                    "{} ended at once ({status}); its log is {}",
                    program.display(),
                    log.display()
                );
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} does not listen on {address}",
                program.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// User and system time so far, microseconds.
    pub(crate) fn cpu_micros(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the command in parentheses and may hold blanks: count from its end.
        let (_, rest) = stat.rsplit_once(')').context("a stat line without a command")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / TICKS_PER_SEC * 1e6)
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        resident_mib(self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// A loopback port that is free now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
