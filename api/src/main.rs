//! tidepool-api: arguments to configuration to store to listeners. No logic here.

fn main() -> std::process::ExitCode {
    tidepool_api::cli::main(std::env::args_os())
}
