//! Colours of words, if there may be colours.

use offshoot_core::lifecycle::TaskState;

/// Wraps text in colour, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// A text about a task in such a state.
    pub(crate) fn state(self, state: TaskState, text: &str) -> String {
        match state {
            TaskState::NeedsAttention => self.wrap("1;33", text),
            TaskState::Failed => self.red(text),
            TaskState::Complete | TaskState::Landed => self.green(text),
            TaskState::Running => self.cyan(text),
            TaskState::Queued | TaskState::Idle | TaskState::Stopped | TaskState::Discarded => {
                self.faint(text)
            }
        }
    }
}
