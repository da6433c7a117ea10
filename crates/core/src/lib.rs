//! The words of Offshoot as types. Pure: no clock, no threads, no I/O; times and ids come in as data.
//! (`fault` is the one exception, and exists in debug builds only.)

pub mod id;
pub mod name;
pub mod part;
pub mod time;

pub mod agent;
pub mod approval;
pub mod comment;
pub mod event;
pub mod host;
pub mod isolation;
pub mod lifecycle;
pub mod record;
pub mod rule;
pub mod scope;

pub mod config;
pub mod egress;
pub mod service;

pub mod api;
pub mod device;
pub mod problem;

pub mod fault;
