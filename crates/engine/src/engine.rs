//! What a client may ask for.

use std::path::PathBuf;

use offshoot_core::{
    api::{
        AgentView, DaemonView, DiffView, DiscardParams, EventList, ExecParams, ExecView, FollowUpParams, LandParams,
        LandView, PruneView, TaskList, TaskParams, TaskView,
    },
    event::Entry,
    id::TaskId,
    problem::Problem,
};
use tokio::sync::mpsc;

use crate::stream::ExecStream;

/// How the daemon was started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// The `offshoot` binary, for the shims.
    pub exe: PathBuf,
    /// The user's `config.toml`, if there is one.
    pub user_config: PathBuf,
}

/// The engine; a cheap handle.
#[derive(Clone)]
pub struct Engine {}

/// Which task is meant: its id, the beginning of its id, or its name. A name that several projects use means the
/// one of the project that `path` lies in.
#[derive(Clone, Debug, Default)]
pub struct TaskRef {
    /// Id, beginning of an id, or name.
    pub task: String,
    /// The caller's directory.
    pub path: Option<PathBuf>,
}
