//! tidepool-bench: command line.

fn main() {}
