//! What is said. Its texts come from agents in part: they are cut and cleaned once, here, and each sink escapes what it
//! would interpret.

use offshoot_core::{config::NotificationKind, name::TaskName};

/// Longest line, in characters: more is cut by phones anyway.
const LONGEST: usize = 240;

/// Something a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Of which kind.
    pub kind: Option<NotificationKind>,
    /// The task it is about; `None` for a test.
    pub task: Option<(String, TaskName)>,
    /// The task's repository.
    pub root: String,
    /// What happened, in a few words of our own.
    pub what: String,
    /// The particulars, in an agent's words perhaps; may be empty.
    pub text: String,
    /// What the approval is called, if it is one.
    pub approval: Option<String>,
    /// Where to look at it, if a page is reached from where the person is.
    pub link: Option<String>,
}

impl Notice {
    /// The same with texts that are one short line each.
    pub(crate) fn cleaned(&self) -> Self {
        Self { what: line(&self.what), text: line(&self.text), ..self.clone() }
    }

    /// One line: the task and what happened.
    pub(crate) fn title(&self) -> String {
        match &self.task {
            Some((_, name)) => format!("{name} {}", self.what),
            None => self.what.clone(),
        }
    }
}

/// One line without control characters and without those that turn or hide what follows.
pub(crate) fn line(text: &str) -> String {
    let shown = |c: char| !matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}');
    let text: String = text.chars().take(LONGEST * 8).filter(|c| shown(*c)).collect();
    let words: Vec<_> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let joined = words.join(" ");
    if joined.chars().count() <= LONGEST {
        return joined;
    }
    joined.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_short_and_says_what_it_shows() {
        assert_eq!(line("a\u{1b}[31m b\r\n\tc\u{202e}d\u{200b}e"), "a [31m b cde");
        let long = line(&"x ".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'));
    }
}
