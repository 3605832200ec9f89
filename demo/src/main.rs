//! tidepool-demo: command line.

fn main() {}
