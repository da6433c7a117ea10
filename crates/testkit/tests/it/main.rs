//! The protocol clients of `offshoot-agents` against the scripted agent and against the real agent CLIs; and the rules
//! of the house.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper fails its test")]

mod drive;
mod house;
mod real;
mod scripted;
