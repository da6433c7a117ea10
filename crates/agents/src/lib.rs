//! Protocol clients and declarative definitions of coding agents.
//!
//! - [`definition`]: what is to be known of an agent CLI, as data; [`catalog`]: those shipped, and the user's own
//! - [`launch`]: a definition and the circumstances of a run become a command line, files and a [`Setup`]
//! - [`locate`]: where an agent is installed and what has to be visible for it to run
//! - [`conversation`]: the protocols, each as a fold over what was sent and received
//!
//! Nothing here starts a process, opens a socket or waits. Only [`locate`] reads the file system.

pub mod catalog;
pub mod conversation;
pub mod definition;
pub mod launch;
pub mod locate;

pub use catalog::Catalog;
pub use conversation::{
    Answer, Conversation, ConversationState, Direction, Prompt, Send, SessionWish, Setup, Wants,
};
pub use definition::{AgentDefinition, Protocol};
pub use launch::{Launch, LaunchParams, Stdio};
pub use locate::{LocateError, Located, locate};
