//! Where a notice goes: what the user's configuration names. Tokens are read when something is sent, and never shown.

use std::{io::Read, path::Path};

use offshoot_core::config::{NotificationsConfig, TokenConfig};

use crate::{desktop, notice::Notice, payload, post};

/// Longest token, in bytes.
const TOKEN: u64 = 4096;

/// One place.
#[derive(Clone, PartialEq, Eq)]
pub enum Sink {
    /// Any program that takes JSON.
    Webhook {
        /// Where.
        url: String,
        /// What to be let in with.
        token: TokenConfig,
    },
    /// An ntfy server.
    Ntfy {
        /// The server.
        url: String,
        /// The topic.
        topic: String,
        /// What to be let in with.
        token: TokenConfig,
    },
    /// Slack, or what understands its webhooks.
    Slack {
        /// Where; a secret by itself.
        url: String,
    },
    /// The desktop of whoever the daemon belongs to.
    Desktop,
}

/// Why a notice did not get there. Never holds a URL or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It answers, but not with yes.
    #[error("it answered with status {0}")]
    Status(u16),
    /// It does not answer in time.
    #[error("it did not answer in time")]
    Timeout,
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The configuration cannot be used.
    #[error("its URL or token cannot be used")]
    Invalid,
    /// The token is not where it should be.
    #[error("its token cannot be read: {0}")]
    Token(String),
    /// The program that shows it failed.
    #[error("notify-send failed: {0}")]
    Program(String),
}

impl SendError {
    /// Whether it may work a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::Timeout | Self::Unreachable(_) => true,
            Self::Invalid | Self::Token(_) | Self::Program(_) => false,
        }
    }
}

impl Sink {
    /// All that a configuration names.
    pub fn all(config: &NotificationsConfig) -> Vec<Self> {
        let webhook = config.webhook.as_ref();
        let webhook = webhook.map(|it| Self::Webhook { url: it.url.clone(), token: it.token() });
        let ntfy = config.ntfy.as_ref();
        let ntfy =
            ntfy.map(|it| Self::Ntfy { url: it.url.clone(), topic: it.topic.clone(), token: it.token() });
        let slack = config.slack.as_ref().map(|it| Self::Slack { url: it.url.clone() });
        let desktop = config.desktop.then_some(Self::Desktop);
        [webhook, ntfy, slack, desktop].into_iter().flatten().collect()
    }

    /// What it is called.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Ntfy { .. } => "ntfy",
            Self::Slack { .. } => "slack",
            Self::Desktop => "desktop",
        }
    }

    /// The host that it is on.
    pub fn host(&self) -> Option<String> {
        let (Self::Webhook { url, .. } | Self::Ntfy { url, .. } | Self::Slack { url }) = self else {
            return None;
        };
        url.parse::<ureq::http::Uri>().ok()?.host().map(str::to_owned)
    }

    /// Sends a notice, once. Blocks, for some seconds at most.
    pub(crate) fn send(&self, notice: &Notice) -> Result<(), SendError> {
        let notice = notice.cleaned();
        match self {
            Self::Webhook { url, token } => {
                post::json(url, read(token)?.as_deref(), &payload::webhook(&notice).to_string())
            }
            Self::Ntfy { url, topic, token } => {
                post::json(url, read(token)?.as_deref(), &payload::ntfy(&notice, topic).to_string())
            }
            Self::Slack { url } => post::json(url, None, &payload::slack(&notice).to_string()),
            Self::Desktop => {
                let (title, body) = payload::desktop(&notice);
                desktop::show(&title, &body)
            }
        }
    }
}

fn read(token: &TokenConfig) -> Result<Option<String>, SendError> {
    let text = match token {
        TokenConfig::None => return Ok(None),
        TokenConfig::Env(name) => {
            std::env::var(name).map_err(|_| SendError::Token(format!("{name} is not set for the daemon")))?
        }
        TokenConfig::File(path) => {
            let failed = |error: std::io::Error| SendError::Token(error.kind().to_string());
            let mut text = String::new();
            std::fs::File::open(Path::new(path))
                .map_err(failed)?
                .take(TOKEN)
                .read_to_string(&mut text)
                .map_err(failed)?;
            text
        }
    };
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_control) {
        return Err(SendError::Token("there is none in it".to_owned()));
    }
    Ok(Some(token.to_owned()))
}
