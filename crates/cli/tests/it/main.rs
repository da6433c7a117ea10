//! The command line, as far as it goes without a daemon, and its pages of reference.

mod offline;
mod reference;
