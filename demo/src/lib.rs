//! The whole of Tidepool on one machine: local cloud, autoscaler and API are started, load rises and falls, a member loses
//! its power, and what clients noticed is counted.

pub mod children;
pub mod cli;
pub mod cloud;
pub mod files;
pub mod guard;
pub mod mark;
pub mod place;
pub mod scaler;
pub mod scenario;
pub mod services;
pub mod site;
pub mod stop;
pub mod summary;
pub mod view;
