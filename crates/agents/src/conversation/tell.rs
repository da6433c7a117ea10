//! Events that several protocols tell in the same way.

use offshoot_core::agent::{AgentEvent, Role};

use super::bound;

/// A piece of text, cut into bounded ones.
pub(super) fn say(role: Role, text: &str, events: &mut Vec<AgentEvent>) {
    events.extend(bound::pieces(text).map(|text| AgentEvent::Message { role, text: text.to_owned() }));
}

/// A line was over the bound.
pub(super) fn too_long() -> AgentEvent {
    let text = format!("a line of more than {} MiB from the agent was dropped", bound::LINE >> 20);
    AgentEvent::Trouble { text, retrying: false }
}
