//! tidepool-demo: command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    tidepool_demo::cli::main().await
}
