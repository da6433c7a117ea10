//! Why a request gets no answer from an app, in words for the person at the browser.

use std::time::Duration;

/// Why there is no connection to an app.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unavailable {
    /// The sort.
    pub reason: Reason,
    /// A sentence, without a full stop.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Sorts of [`Unavailable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No such task.
    UnknownTask,
    /// The task has no such app, service or port.
    UnknownApp,
    /// The environment was removed.
    Gone,
    /// The app was not started, or has ended.
    NotStarted,
    /// The environment is being brought up or woken: soon.
    Waking,
    /// The app runs, but does not listen yet: soon.
    NotListening,
    /// The environment is there, but a connection into it cannot be made.
    Failed,
    /// It took too long.
    TimedOut,
}

impl Reason {
    /// The HTTP status that says so.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::UnknownTask | Self::UnknownApp | Self::Gone => 404,
            Self::NotStarted | Self::Waking => 503,
            Self::NotListening | Self::Failed => 502,
            Self::TimedOut => 504,
        }
    }

    /// Stable and searchable.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::UnknownTask => "unknown-task",
            Self::UnknownApp => "unknown-app",
            Self::Gone => "gone",
            Self::NotStarted => "not-started",
            Self::Waking => "waking",
            Self::NotListening => "not-listening",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
        }
    }

    /// When to try again; `None` if that is up to a person.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Waking | Self::NotListening => Some(Duration::from_secs(1)),
            Self::NotStarted | Self::TimedOut | Self::Failed => Some(Duration::from_secs(5)),
            Self::UnknownTask | Self::UnknownApp | Self::Gone => None,
        }
    }
}

impl Unavailable {
    /// Without a hint.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Why a request is not passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It can be read in two ways, or in none.
    Malformed { what: &'static str },
    /// Its head is too large.
    TooLarge,
    /// It is for a host that is not served here (a rebound name, for one).
    NotHere { host: String },
    /// It takes this for a proxy to anywhere.
    NotAProxy { text: String },
    /// Another site's page asks.
    CrossSite { by: String },
    /// The proxy's own pages can only be read.
    Method,
    /// The proxy has no such page of its own.
    NoPage,
    /// There is no connection to the app.
    Unavailable(Unavailable),
}

impl Refusal {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 400,
            Self::TooLarge => 431,
            Self::NotHere { .. } => 421,
            Self::NotAProxy { .. } | Self::CrossSite { .. } => 403,
            Self::Method => 405,
            Self::NoPage => 404,
            Self::Unavailable(unavailable) => unavailable.reason.status(),
        }
    }

    /// Stable and searchable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::TooLarge => "too-large",
            Self::NotHere { .. } => "not-here",
            Self::NotAProxy { .. } => "not-a-proxy",
            Self::CrossSite { .. } => "cross-site",
            Self::Method => "method",
            Self::NoPage => "no-page",
            Self::Unavailable(unavailable) => unavailable.reason.code(),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(unavailable) => unavailable.reason.retry_after(),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Malformed { what } => format!("The request is refused: {what}."),
            Self::TooLarge => "The request is refused: its head is larger than 64 KiB.".to_owned(),
            Self::NotHere { host } => {
                format!("Nothing is served for the host {host:?} here: only names that end in .localhost.")
            }
            Self::NotAProxy { text } => {
                format!("This leads to the apps of tasks only, not to {text:?}.")
            }
            Self::CrossSite { by } => format!(
                "A page of another site ({by}) asked for this. Pages of one task cannot use another's, nor can \
                 other sites; opening the address itself works."
            ),
            Self::Method => "This page can only be read.".to_owned(),
            Self::NoPage => "There is no such page.".to_owned(),
            Self::Unavailable(unavailable) => format!("{}.", unavailable.text),
        }
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Unavailable(unavailable) => unavailable.hint.as_deref(),
            Self::NotHere { .. } => Some("http://<app>.<task>.localhost:<port>/"),
            _ => None,
        }
    }
}
