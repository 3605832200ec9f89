//! The whole of Tidepool on one machine: local cloud, autoscaler and API are started, load rises and falls, a member loses
//! its power, and what clients noticed is counted.

pub mod load;
