//! tidepool-autoscaler: arguments to configuration to daemon. No logic here.

fn main() {}
