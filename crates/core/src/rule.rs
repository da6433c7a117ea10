//! Standing rules: answers that a person gave once for all later requests of the same kind.
//!
//! Invariants: a rule answers only what is [`Subject`] whole; texts are compared byte by byte; a rule is as wide as the
//! person made it, never wider by what an agent writes. So a rule over the beginning of a command answers only commands
//! of plain words, in which no shell finds anything to interpret, and a rule over a directory only paths without `..`.
//!
//! The engine asks this file for each new approval. It deliberately knows no wildcard and no regular expression.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::ToolKind,
    approval::{Subject, Verdict},
    egress::HostName,
    id::ApprovalId,
    time::Timestamp,
};

/// Most rules of one task: beyond some dozens nobody knows any more what they allow.
pub const MAX_RULES: usize = 100;

/// For whom a rule answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleScope {
    /// All runs of the task in which it was made.
    Task,
    /// All tasks of that task's project, also those to come.
    Project,
}

/// Which requests a rule answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RuleMatch {
    /// The same command, byte by byte.
    Command {
        /// The command.
        command: String,
    },
    /// Commands of plain words that begin with these.
    CommandPrefix {
        /// The first words.
        words: Vec<String>,
    },
    /// The same done with the same files.
    Files {
        /// What is done.
        kind: ToolKind,
        /// The files.
        paths: Vec<String>,
    },
    /// The same done with files below a directory.
    FilesBelow {
        /// What is done.
        kind: ToolKind,
        /// The directory, absolute.
        directory: String,
    },
    /// The same tool with the same input, byte by byte.
    Tool {
        /// The tool.
        name: String,
        /// Its input.
        input: String,
    },
    /// The same host at the same port.
    Host {
        /// Its name.
        #[schema(value_type = String)]
        host: HostName,
        /// The port.
        port: u16,
    },
}

/// A rule that is made with an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewRule {
    /// For whom it answers.
    pub scope: RuleScope,
    /// What it answers.
    pub matches: RuleMatch,
}

/// A rule that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleRecord {
    /// The approval that it was made with; a rule is called like it.
    pub id: ApprovalId,
    /// That approval's number within the task.
    pub number: u32,
    /// What it answers with.
    pub verdict: Verdict,
    /// The reason it gives, if it says no.
    pub text: Option<String>,
    /// For whom it answers.
    pub scope: RuleScope,
    /// What it answers.
    pub matches: RuleMatch,
    /// When it was made.
    pub made_at: Timestamp,
}

impl RuleMatch {
    /// The narrowest rule that answers `subject`; `None` if it cannot be compared.
    pub fn exactly(subject: &Subject) -> Option<Self> {
        Some(match subject.clone() {
            Subject::Command { command } => Self::Command { command },
            Subject::Files { kind, paths } => Self::Files { kind, paths },
            Subject::Tool { name, input } => Self::Tool { name, input },
            Subject::Host { host, port } => Self::Host { host, port },
            Subject::Question | Subject::Unclear => return None,
        })
    }

    /// A rule over commands that begin with the words of `text`; `None` if those are not plain.
    pub fn beginning(text: &str) -> Option<Self> {
        let words: Vec<_> = plain_words(text)?.into_iter().map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self::CommandPrefix { words })
    }

    /// A rule over what `subject` does, for files below `directory`; `None` if that is not about files, or the path is
    /// not plain.
    pub fn below(subject: &Subject, directory: &str) -> Option<Self> {
        let Subject::Files { kind, .. } = subject else { return None };
        let directory = directory.strip_suffix('/').unwrap_or(directory);
        plain_path(directory).then(|| Self::FilesBelow { kind: *kind, directory: directory.to_owned() })
    }

    /// Whether it answers `subject`.
    pub fn matches(&self, subject: &Subject) -> bool {
        match (self, subject) {
            (Self::Command { command }, Subject::Command { command: asked }) => command == asked,
            (Self::CommandPrefix { words }, Subject::Command { command }) => plain_words(command)
                .is_some_and(|asked| {
                    !words.is_empty() && asked.len() >= words.len() && {
                        words.iter().zip(asked).all(|(word, asked)| word == asked)
                    }
                }),
            (Self::Files { kind, paths }, Subject::Files { kind: asked, paths: files }) => {
                kind == asked && paths == files
            }
            (Self::FilesBelow { kind, directory }, Subject::Files { kind: asked, paths }) => {
                kind == asked && !paths.is_empty() && paths.iter().all(|path| is_below(path, directory))
            }
            (Self::Tool { name, input }, Subject::Tool { name: asked, input: with }) => {
                name == asked && input == with
            }
            (Self::Host { host, port }, Subject::Host { host: asked, port: at }) => {
                host == asked && port == at
            }
            _ => false,
        }
    }
}

/// The words of a command in which a shell has nothing to interpret: no quote, no variable, no redirection, no second
/// command, no pattern, no line break. `None` for all others.
fn plain_words(command: &str) -> Option<Vec<&str>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" _-./:,@%+=".contains(&b);
    let words: Vec<_> = command.split(' ').filter(|word| !word.is_empty()).collect();
    // `A=b command` runs the command with a variable, which may be its pager or its library path.
    let assigns = words.first().is_some_and(|word| word.contains('='));
    (command.bytes().all(plain) && !assigns).then_some(words)
}

/// Whether a path is absolute and means what it says.
fn plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            && !path.chars().any(char::is_control)
    })
}

fn is_below(path: &str, directory: &str) -> bool {
    plain_path(path) && path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(command: &str) -> Subject {
        Subject::Command { command: command.to_owned() }
    }

    fn files(kind: ToolKind, paths: &[&str]) -> Subject {
        Subject::Files { kind, paths: paths.iter().map(|&path| path.to_owned()).collect() }
    }

    #[test]
    fn the_narrowest_rule_answers_the_same_only() {
        let subjects = [
            command("cargo test"),
            command("cargo test "),
            command("cargo  test"),
            files(ToolKind::Edit, &["/w/a"]),
            files(ToolKind::Edit, &["/w/a", "/w/b"]),
            files(ToolKind::Delete, &["/w/a"]),
            Subject::Tool { name: "Fetch".to_owned(), input: "{}".to_owned() },
            Subject::Tool { name: "fetch".to_owned(), input: "{}".to_owned() },
        ];
        for (n, one) in subjects.iter().enumerate() {
            let rule = RuleMatch::exactly(one).unwrap();
            for (m, other) in subjects.iter().enumerate() {
                assert_eq!(rule.matches(other), n == m, "{rule:?} {other:?}");
            }
        }
        assert_eq!(RuleMatch::exactly(&Subject::Unclear), None);
        assert_eq!(RuleMatch::exactly(&Subject::Question), None);
    }

    #[test]
    fn nothing_hides_behind_the_beginning_of_a_command() {
        let rule = RuleMatch::beginning("cargo  test").unwrap();
        for fine in ["cargo test", "cargo test --all", " cargo test -p a=b", "cargo test x:y"] {
            assert!(rule.matches(&command(fine)), "{fine}");
        }
        for hostile in [
            "cargo testing",
            "cargo",
            "cargo build test",
            "cargo test; rm -rf /",
            "cargo test && rm x",
            "cargo test | sh",
            "cargo test &",
            "cargo test $(rm x)",
            "cargo test `rm x`",
            "cargo test > /etc/passwd",
            "cargo test < x",
            "cargo test\nrm x",
            "cargo test\rrm x",
            "cargo test \\\nrm",
            "cargo\ttest",
            "cargo\u{a0}test",
            "cargo test 'a'",
            "cargo test \"$x\"",
            "cargo test {a,b}",
            "cargo test *",
            "cargo test ~root",
            "cargo test #",
            "cargo test !!",
            "cargo test \u{202e}",
            "cargo test \0",
            "RUSTC_WRAPPER=./x cargo test",
        ] {
            assert!(!rule.matches(&command(hostile)), "{hostile:?}");
        }
        for none in ["", "  ", "a;b", "$x", "A=b c", "a\nb"] {
            assert_eq!(RuleMatch::beginning(none), None, "{none:?}");
        }
    }

    #[test]
    fn nothing_leaves_a_directory() {
        let edit = files(ToolKind::Edit, &["/w/src/a.rs"]);
        let rule = RuleMatch::below(&edit, "/w/src/").unwrap();
        for fine in [vec!["/w/src/a.rs"], vec!["/w/src/b/c", "/w/src/d"]] {
            assert!(rule.matches(&files(ToolKind::Edit, &fine)), "{fine:?}");
        }
        for hostile in [
            vec![],
            vec!["/w/src"],
            vec!["/w/src/"],
            vec!["/w/srcs/a"],
            vec!["/w/src/../a"],
            vec!["/w/src/./a"],
            vec!["/w/src//a"],
            vec!["/w/src/a\n"],
            vec!["w/src/a"],
            vec!["src/a"],
            vec!["/w/src/a", "/w/b"],
        ] {
            assert!(!rule.matches(&files(ToolKind::Edit, &hostile)), "{hostile:?}");
        }
        assert!(!rule.matches(&files(ToolKind::Delete, &["/w/src/a.rs"])));
        for none in ["", "/", "src", "/w/../etc", "/w//src"] {
            assert_eq!(RuleMatch::below(&edit, none), None, "{none:?}");
        }
        assert_eq!(RuleMatch::below(&command("rm x"), "/w"), None);
    }

    proptest::proptest! {
        /// Whatever is appended to an allowed beginning, what is answered has words only.
        #[test]
        fn what_a_beginning_answers_is_plain(rest in "\\PC{0,20}|[ -~\\n\\t]{0,20}") {
            let rule = RuleMatch::beginning("git status").unwrap();
            let asked = format!("git status {rest}");
            if rule.matches(&command(&asked)) {
                proptest::prop_assert!(asked.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-./:,@%+=".contains(&b)));
            }
        }
    }
}
