//! tidepool-api: arguments to configuration to store to listeners. No logic here.

fn main() {}
