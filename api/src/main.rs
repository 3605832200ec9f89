//! tidepool-api: arguments to configuration to store to listeners. No logic here.

/// Gives memory back to the system soon after a burst, which the system's own allocator keeps: see
/// `docs/adr/0082-bytes-held-for-clients.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tidepool_api::cli::main(std::env::args_os())
}
