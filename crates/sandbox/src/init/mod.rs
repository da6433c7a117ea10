//! Pid 1 inside: forked (not exec'ed) by the shim, so that its memory keeps belonging to the host's user namespace and
//! nothing inside can look at it.
//!
//! `mounts` puts the file system together, `confine` gives up every right, `serve` is the loop, `spawn` starts
//! processes, `starts` those that need more than that, `keep` keeps what one starts together, `moves` and `moving` help with renames, `dns` answers names, `lo` and `netlink` make the network, `usage` watches memory where no control group does.
//! `host` is the loop where there is no inside.

#[cfg(fuzzing)]
pub use dns::answer_dns;

mod confine;
mod dns;
mod host;
mod keep;
mod lo;
mod mounts;
mod moves;
mod moving;
mod netlink;
mod serve;
mod spawn;
mod starts;
mod usage;

pub(crate) use host::main as host_main;
pub(crate) use serve::main;

/// What could not be set up.
#[derive(Debug)]
pub(crate) struct SetupError {
    /// What was being done, for the person who reads it.
    pub step: String,
    /// What the kernel said.
    pub source: std::io::Error,
}

/// Names a step in an error.
trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|e| SetupError { step: step(), source: e.into() })
    }
}
