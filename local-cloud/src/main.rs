//! tidepool-local-cloud: command line. Parses the arguments and runs the command; no logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidepool_local_cloud::cli::main()
}
