//! The protocol clients of `offshoot-agents` against the scripted agent and against the real agent CLIs.

mod drive;
mod real;
mod scripted;
