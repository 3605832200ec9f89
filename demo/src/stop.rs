//! Ctrl-C: the first asks for an orderly end, the second for a quick one.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two requests, in this order.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// End in order, and report what was seen.
    pub gently: CancellationToken,
    /// End now.
    pub now: CancellationToken,
}

impl Stop {
    /// Nothing requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to SIGINT, SIGTERM and SIGHUP (the terminal was closed).
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::new();
        let mut signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        let heard = stop.clone();
        tokio::spawn(async move {
            any(&mut signals).await;
            heard.gently.cancel();
            any(&mut signals).await;
            heard.now.cancel();
        });
        Ok(stop)
    }
}

async fn any([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
