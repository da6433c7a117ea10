//! Tool calls by id: protocols send a call once and then only what changed of it; events carry the whole.

use std::collections::VecDeque;

use offshoot_core::agent::{AgentEvent, ToolKind, ToolStatus};

use super::bound;

#[derive(Debug, Default)]
pub(super) struct Tools {
    calls: VecDeque<Call>,
}

/// What is known of a call; also what is new of it (`None`: unchanged).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) title: Option<String>,
    pub(super) kind: Option<ToolKind>,
    pub(super) status: Option<ToolStatus>,
    pub(super) locations: Vec<String>,
    pub(super) detail: Option<String>,
    pub(super) change: Option<String>,
}

impl Tools {
    /// Merges news of a call into what is known and tells it, if anything changed.
    pub(super) fn upsert(&mut self, news: Call, events: &mut Vec<AgentEvent>) {
        if news.id.is_empty() || news.id.len() > bound::ID {
            return;
        }
        let call = match self.calls.iter().position(|call| call.id == news.id) {
            Some(index) => &mut self.calls[index],
            None => {
                if self.calls.len() >= bound::TOOL_CALLS {
                    self.calls.pop_front();
                }
                self.calls.push_back(Call { id: news.id.clone(), ..Call::default() });
                let last = self.calls.len() - 1;
                &mut self.calls[last]
            }
        };
        let before = call.clone();
        if let Some(title) = news.title.filter(|title| !title.trim().is_empty()) {
            call.title = Some(bound::title(&title));
        }
        call.kind = news.kind.or(call.kind);
        call.status = news.status.or(call.status);
        for location in news.locations {
            let location = bound::shorten(&location, bound::PATH);
            if call.locations.len() < bound::LOCATIONS && !call.locations.contains(&location) {
                call.locations.push(location);
            }
        }
        if let Some(detail) = news.detail.filter(|detail| !detail.is_empty()) {
            call.detail = Some(bound::shorten(&detail, bound::DETAIL));
        }
        if let Some(change) = news.change {
            call.change = Some(bound::shorten(&change, bound::DETAIL));
        }
        if *call != before || before.title.is_none() && before.status.is_none() {
            events.push(AgentEvent::ToolCall {
                id: call.id.clone(),
                title: call.title.clone().unwrap_or_else(|| "tool call".to_owned()),
                kind: call.kind.unwrap_or_default(),
                status: call.status.unwrap_or_default(),
                locations: call.locations.clone(),
                detail: call.detail.clone(),
                change: call.change.clone(),
            });
        }
    }

    /// What is known of a call.
    pub(super) fn get(&self, id: &str) -> Option<&Call> {
        self.calls.iter().find(|call| call.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output that comes later replaces the command, but not what was changed.
    #[test]
    fn a_change_stays_when_the_output_comes() {
        let (mut tools, mut events) = (Tools::default(), Vec::new());
        let change = Some("/a\n-1\n+2".to_owned());
        tools.upsert(Call { id: "1".into(), change: change.clone(), ..Call::default() }, &mut events);
        tools.upsert(Call { id: "1".into(), detail: Some("done".into()), ..Call::default() }, &mut events);
        let Some(AgentEvent::ToolCall { change: told, detail, .. }) = events.last() else { unreachable!() };
        assert_eq!((told, detail.as_deref()), (&change, Some("done")));
    }
}
