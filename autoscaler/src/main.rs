//! tidepool-autoscaler: command line.

fn main() {}
