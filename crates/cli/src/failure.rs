//! How a command ends badly: a problem with its kind's exit code, the exit code of a command inside, or nobody left to
//! read what is printed.

use std::{io, process::ExitCode};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NamedSource, SourceSpan};
use offshoot_core::problem::{Problem, ProblemKind};

use crate::{
    screen::Screen,
    text::{escape_block, escape_line},
};

/// What `run` of a command returns.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// A bad end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Problem(Box<Problem>),
    /// A mistake in a configuration file, with its place.
    Config(Box<ConfigReport>),
    /// Everything has been said; only the code is left.
    Code(u8),
    /// Whoever read our output went away.
    BrokenPipe,
}

/// A mistake in a configuration file.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
#[diagnostic(code(config_invalid))]
pub(crate) struct ConfigReport {
    /// What is wrong.
    pub message: String,
    /// The file.
    #[source_code]
    pub text: NamedSource<String>,
    /// Where in it.
    #[label("here")]
    pub span: Option<SourceSpan>,
    /// Where to read on.
    #[help]
    pub help: String,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Problem::new(ProblemKind::Unavailable, "io", error.to_string()).into()
    }
}

impl Failure {
    /// Tells the person (or, with `--json`, the program) on standard error, and gives the exit code.
    pub(crate) fn report(self, screen: &Screen) -> ExitCode {
        match self {
            Self::BrokenPipe => ExitCode::SUCCESS,
            Self::Code(code) => ExitCode::from(code),
            Self::Problem(problem) => {
                if screen.json {
                    screen.say(&serde_json::to_string(&problem).unwrap_or_default());
                } else {
                    screen.say(&describe(&problem, screen.stderr_colour));
                }
                ExitCode::from(problem.kind.exit_code())
            }
            Self::Config(report) => {
                if screen.json {
                    let problem =
                        Problem::new(ProblemKind::Invalid, "config_invalid", report.message.clone())
                            .hint(report.help.clone())
                            .detail(render(&report, false));
                    screen.say(&serde_json::to_string(&problem).unwrap_or_default());
                } else {
                    screen.say(render(&report, screen.stderr_colour).trim_end());
                }
                ExitCode::from(ProblemKind::Invalid.exit_code())
            }
        }
    }
}

fn render(report: &ConfigReport, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    match GraphicalReportHandler::new_themed(theme).with_links(false).render_report(&mut text, report) {
        Ok(()) => text,
        Err(_) => report.message.clone(),
    }
}

/// A problem in words: the sentence, more to read, what to do next.
pub(crate) fn describe(problem: &Problem, colour: bool) -> String {
    let (red, bold, plain) = if colour { ("\x1b[31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error:{plain} {}", escape_line(&problem.message));
    if let Some(detail) = problem.detail.as_deref().filter(|d| !d.trim().is_empty()) {
        text.push_str("\n\n");
        text.push_str(escape_block(detail).trim_end());
        text.push('\n');
    }
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("\n{bold}hint:{plain} {}", escape_line(hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_sentence_detail_hint() {
        let problem = Problem::new(ProblemKind::Conflict, "merge_conflict", "it does not merge\x1b[2J")
            .detail("<<<<<<<\nours\n>>>>>>>\u{202e}")
            .hint("follow up");
        assert_eq!(
            describe(&problem, false),
            "error: it does not merge␛[2J\n\n<<<<<<<\nours\n>>>>>>>\\u{202e}\n\nhint: follow up"
        );
    }
}
