//! The shapes of looking ahead and of what is kept on disk.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::PermissionPolicy, egress::EgressRule, event::Limits, isolation::Isolation, name::TaskName,
};

/// `POST /v1/plan`: what a new task would be. Nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The name it would get.
    pub name: TaskName,
    /// Its branch.
    pub branch: String,
    /// The repository's root.
    pub root: String,
    /// The commit it starts from.
    pub base: String,
    /// Where a landing would go.
    pub target: Option<String>,
    /// Its agent; `None` for an environment by hand.
    pub agent: Option<String>,
    /// The model, if one is named.
    pub model: Option<String>,
    /// The command that must succeed at the end.
    pub check: Option<String>,
    /// What kind of environment it gets.
    pub isolation: Isolation,
    /// What permission requests get.
    pub permission: PermissionPolicy,
    /// Hosts that may be reached.
    #[schema(value_type = Vec<String>)]
    pub egress: Vec<EgressRule>,
    /// What its processes may use.
    pub limits: Limits,
    /// Memory it is counted with when it is decided how many fit, in bytes.
    pub counted_bytes: u64,
    /// Whether the commit's files are laid out already; if not, that comes first.
    pub prepared: bool,
    /// Names of the setups that an environment of it stands on.
    pub setups: Vec<String>,
    /// Names of the services that come up with it.
    pub services: Vec<String>,
    /// Other repositories it would be about.
    pub repositories: Vec<String>,
    /// Place in the queue, from 1; `None` if it would start at once.
    pub queue_place: Option<u32>,
    /// What it would wait for, in words.
    pub waits_for: Option<String>,
    /// What a person should know.
    pub notices: Vec<String>,
}

/// What a tree of files kept by Offshoot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// A commit's files.
    Base,
    /// What differs between two commits.
    Delta,
    /// What setup commands made.
    Setup,
    /// What package managers downloaded, for the next setup.
    Cache,
    /// What a service holds at first.
    Data,
}

impl LayerKind {
    /// The kind that a layer of this name is of.
    pub fn of(id: &str) -> Option<Self> {
        match id.split_once('-')?.0 {
            "base" => Some(Self::Base),
            "delta" => Some(Self::Delta),
            "setup" => Some(Self::Setup),
            "cache" => Some(Self::Cache),
            "data" => Some(Self::Data),
            _ => None,
        }
    }

    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Delta => "delta",
            Self::Setup => "setup",
            Self::Cache => "cache",
            Self::Data => "data",
        }
    }
}

/// An immutable tree that environments share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerView {
    /// Its name.
    pub id: String,
    /// What it is; `None` for a kind that this version does not make.
    pub kind: Option<LayerKind>,
    /// The repository it belongs to.
    pub root: String,
    /// Disk it takes, in bytes.
    pub bytes: u64,
    /// Tasks whose environments stand on it. With none of them `prune` may take it away.
    pub tasks: Vec<TaskName>,
}

/// `GET /v1/layers`: what is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerList {
    /// The largest first.
    pub layers: Vec<LayerView>,
    /// All of them together, in bytes.
    pub layers_bytes: u64,
    /// Those that no environment stands on, in bytes.
    pub unused_bytes: u64,
    /// What environments wrote over them, as last measured, in bytes.
    pub environments_bytes: u64,
    /// Unpacked images of services, in bytes.
    pub images_bytes: u64,
    /// Offshoot's own git objects, in bytes.
    pub objects_bytes: u64,
    /// What is free on the file system of the state directory, in bytes.
    pub free_bytes: u64,
}
