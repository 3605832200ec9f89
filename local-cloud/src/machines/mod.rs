//! What a machine is, whatever cloud it belongs to.

pub(crate) mod addresses;
pub(crate) mod cloud_init;
pub(crate) mod faults;
