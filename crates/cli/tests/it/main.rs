//! The command line as a person and a script meet it: the real program, its real daemon, real environments, the scripted
//! agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod daemon;
mod dashboard;
mod environment;
mod inside;
mod mistakes;
mod offline;
mod reference;
mod refused;
mod repositories;
mod services;
mod setups;
mod stage;
mod tasks;
mod terminal;
