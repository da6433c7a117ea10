//! The script is in the prompt: each line that begins with `@` is a step. Both the scripted agent and the scripted
//! model read it; steps that only one of them can do are marked.
//!
//! ```text
//! @shell CMD               run a command
//! @write PATH TEXT         write a file; \n in TEXT is a newline
//! @edit PATH OLD => NEW    replace in a file
//! @read PATH               read a file
//! @plan A | B | C          make a plan
//! @ask QUESTION | A | B    ask the person
//! @say TEXT                the final words
//! @tokens N [MS]           N words, MS milliseconds between them
//! @sleep SECONDS           wait before the next step
//! @both CMD1 && && CMD2    two commands in parallel                       (model)
//! @tool NAME {JSON}        a tool by its exact name                       (model)
//! @error STATUS [N]        answer with an HTTP error, N times             (model)
//! @commit MESSAGE          commit everything                              (agent)
//! @calls N                 N cheap tool calls                             (agent)
//! @crash                   exit without a word                            (agent)
//! @hang                    do nothing for ever, not even when cancelled   (agent)
//! @orphan CMD              start a command that outlives the agent        (agent)
//! @flood N                 N bytes of text                                (agent)
//! ```

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Run a command.
    Shell(String),
    /// Write a file (path, text).
    Write(String, String),
    /// Replace in a file (path, old, new).
    Edit(String, String, String),
    /// Read a file.
    Read(String),
    /// Make a plan.
    Plan(Vec<String>),
    /// Ask a person (question, options).
    Ask(String, Vec<String>),
    /// Final words.
    Say(String),
    /// Words, milliseconds between them.
    Tokens(u64, u64),
    /// Seconds.
    Sleep(f64),
    /// Commands in parallel.
    Both(Vec<String>),
    /// A tool by name, arguments.
    Tool(String, String),
    /// HTTP status, how many times.
    Error(u16, Option<u32>),
    /// Commit everything.
    Commit(String),
    /// Cheap tool calls.
    Calls(u64),
    /// Exit at once.
    Crash,
    /// Never end.
    Hang,
    /// A command that outlives the agent.
    Orphan(String),
    /// Bytes of text.
    Flood(u64),
}

/// The steps in a prompt.
#[must_use]
pub fn parse(text: &str) -> Vec<Step> {
    let text = text.trim();
    // opencode quotes its argument.
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .filter(|text| text.starts_with('@'))
        .unwrap_or(text);
    text.lines().filter_map(step).collect()
}

fn step(line: &str) -> Option<Step> {
    let line = line.trim().strip_prefix('@')?;
    let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
    let argument = argument.replace("\\n", "\n");
    let parts = || argument.split('|').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let number = |default: u64| {
        argument.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(default)
    };
    let two = |separator: &str| {
        let (one, other) = argument.split_once(separator).unwrap_or((&argument, ""));
        (one.to_owned(), other.to_owned())
    };
    Some(match name {
        "shell" => Step::Shell(argument),
        "write" => {
            let (path, text) = two(" ");
            Step::Write(path, format!("{text}\n"))
        }
        "edit" => {
            let (path, rest) = two(" ");
            let (old, new) = rest.split_once(" => ").unwrap_or((&rest, ""));
            Step::Edit(path, old.to_owned(), new.to_owned())
        }
        "read" => Step::Read(argument.trim().to_owned()),
        "plan" => Step::Plan(parts()),
        "ask" => {
            let mut parts = parts();
            let question = parts.remove(0);
            if parts.is_empty() {
                parts = vec!["yes".into(), "no".into()];
            }
            Step::Ask(question, parts)
        }
        "say" => Step::Say(argument),
        "tokens" => {
            let gap = argument.split_whitespace().nth(1).and_then(|word| word.parse().ok());
            Step::Tokens(number(10), gap.unwrap_or(0))
        }
        "sleep" => Step::Sleep(argument.trim().parse().unwrap_or(1.0)),
        "both" => Step::Both(argument.split(" && && ").map(str::to_owned).collect()),
        "tool" => {
            let (name, arguments) = two(" ");
            Step::Tool(name, arguments)
        }
        "error" => {
            let times = argument.split_whitespace().nth(1).and_then(|word| word.parse().ok());
            Step::Error(u16::try_from(number(500)).unwrap_or(500), times)
        }
        "commit" => Step::Commit(argument),
        "calls" => Step::Calls(number(10)),
        "crash" => Step::Crash,
        "hang" => Step::Hang,
        "orphan" => Step::Orphan(argument),
        "flood" => Step::Flood(number(1 << 20)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_steps_and_passes_over_the_rest() {
        let steps = parse(
            "Please go on\n@write a/b.txt one\\ntwo\n  @edit a.txt x y => z\n@nonsense 1\n@ask Which? | a | b\nme@say.org",
        );
        assert_eq!(
            steps,
            [
                Step::Write("a/b.txt".into(), "one\ntwo\n".into()),
                Step::Edit("a.txt".into(), "x y".into(), "z".into()),
                Step::Ask("Which?".into(), vec!["a".into(), "b".into()]),
            ]
        );
        assert_eq!(
            parse("@error 529 2\n@tokens 5\n@crash"),
            [Step::Error(529, Some(2)), Step::Tokens(5, 0), Step::Crash]
        );
        assert_eq!(parse("\"@say hi\""), [Step::Say("hi".into())]);
    }
}
