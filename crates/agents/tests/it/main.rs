//! The protocol clients against peers in memory, random cuts, crashes and noise; where agents are found.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod fold;
mod locate;
mod noise;
mod peers;
mod terminal;
