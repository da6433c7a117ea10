//! Scripted agents, a scripted model server and test repositories.
//!
//! Nothing of this is part of the product; only the scripted agent is also used for demonstrations.
//!
//! - [`script`]: the `@` language in which prompts say what is to be done
//! - [`scripted_agent`]: an ACP agent that does it, without a model (binary `offshoot-scripted-agent`)
//! - [`model`]: a server that speaks the model APIs and makes real agents do it (binary `offshoot-scripted-model`)
//! - [`repo`]: git repositories to work on
//! - [`agents`]: the real agent CLIs, in exact versions
//! - [`servers`]: database servers on the loopback
//! - [`user`]: an ordinary user to test as, when root

pub mod agents;
pub mod model;
pub mod repo;
pub mod script;
pub mod scripted_agent;
pub mod servers;
pub mod user;
