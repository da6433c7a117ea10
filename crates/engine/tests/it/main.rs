//! The engine in the real daemon: what survives crashes, what stays true under load, what never gets lost.

mod audit;
mod faults;
mod http;
mod leaks;
mod ordinary;
mod stage;
