//! Names: of tasks (what a person types to mean one, and what its branch is called after), and of the services, apps and
//! setups of an environment.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest name. Branch, host name label and directory all carry it; a DNS label has 63 bytes.
pub const MAX_NAME: usize = 48;

/// A task's name: lower-case letters, digits and inner hyphens, 1 to [`MAX_NAME`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "add-a-date-filter")]
pub struct TaskName(String);

/// A text that is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name; use 1 to 48 lower-case letters, digits and inner hyphens")]
pub struct NameError(String);

/// What the names of tasks' branches begin with.
pub const BRANCHES: &str = "offshoot/";

impl TaskName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The branch a task of this name owns in the user's repository.
    pub fn branch(&self) -> String {
        format!("{BRANCHES}{}", self.0)
    }

    /// A name made from the first words of a prompt. Never fails: a prompt without letters gives `task`.
    pub fn from_prompt(prompt: &str) -> Self {
        let mut name = String::new();
        let line = prompt.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
        for word in line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).take(6) {
            let hyphen = usize::from(!name.is_empty());
            if name.len() + hyphen + word.len() > 40 {
                break;
            }
            if hyphen == 1 {
                name.push('-');
            }
            name.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        Self(if name.is_empty() { "task".to_owned() } else { name })
    }

    /// This name with a number appended, for when the plain one is taken.
    pub fn numbered(&self, number: u32) -> Self {
        let suffix = format!("-{number}");
        let stem: String = self.0.chars().take(MAX_NAME.saturating_sub(suffix.len())).collect();
        Self(format!("{}{suffix}", stem.trim_end_matches('-')))
    }
}

impl FromStr for TaskName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let valid = (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }
}

impl TryFrom<String> for TaskName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> Self {
        name.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest [`Label`]: what DNS allows.
pub const MAX_LABEL: usize = 63;

/// The name of a service, an app, a setup or a shared server: lower-case letters, digits and inner hyphens, a letter
/// first (a bare number is an address to every resolver), at most [`MAX_LABEL`] bytes. Services and apps are found by it
/// as a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "postgres")]
pub struct Label(String);

/// A text that is not such a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It has other characters, or too many.
    #[error("{0:?} is not a name; use 1 to 63 lower-case letters, digits and inner hyphens, a letter first")]
    Form(String),
    /// It means something else.
    #[error("{0:?} means something else inside an environment; take another name")]
    Reserved(String),
}

/// Names with another meaning inside: the environment itself, this machine (`host.internal`).
const RESERVED: [&str; 5] = ["localhost", "host", "internal", "local", "offshoot"];

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made from a text that comes from elsewhere: other characters become hyphens. `None` if nothing is left.
    pub fn from_foreign(text: &str) -> Option<Self> {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let text: String = text.chars().map(letter).take(MAX_LABEL).collect();
        text.trim_matches('-').parse().ok()
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let valid = (1..=MAX_LABEL).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-');
        match valid {
            true if RESERVED.contains(&text) => Err(LabelError::Reserved(text.to_owned())),
            true => Ok(Self(text.to_owned())),
            false => Err(LabelError::Form(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;
    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(name: Label) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_give_names() {
        for (prompt, name) in [
            ("Add a date filter", "add-a-date-filter"),
            ("\n  Fix #12: the parser!\nmore", "fix-12-the-parser"),
            ("日本語", "task"),
            ("", "task"),
            ("one two three four five six seven", "one-two-three-four-five-six"),
            ("supercalifragilisticexpialidociousandmuchlonger", "task"),
        ] {
            assert_eq!(TaskName::from_prompt(prompt).as_str(), name, "{prompt:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn made_names_are_names(prompt in ".{0,80}", number in 2u32..100_000) {
            let name = TaskName::from_prompt(&prompt);
            proptest::prop_assert_eq!(name.as_str().parse::<TaskName>().unwrap(), name.clone());
            let numbered = name.numbered(number);
            proptest::prop_assert_eq!(numbered.as_str().parse::<TaskName>().unwrap(), numbered);
        }
    }
}
