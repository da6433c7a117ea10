//! `[notifications]` of the user's file: who is told what. Only the user's: a repository is not trusted to name addresses that
//! this machine talks to.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[notifications]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NotificationsConfig {
    /// What is told: `approval`, `attention`, `complete`, `failed`. The first three if not given.
    pub kinds: Option<Vec<NotificationKind>>,
    /// Where the dashboard is reached by whoever reads: `https://laptop.example`. Without it nothing links to it.
    pub link: Option<String>,
    /// Whether the desktop of this machine shows it (`notify-send`).
    pub desktop: bool,
    /// A program that takes JSON.
    pub webhook: Option<WebhookConfig>,
    /// An ntfy server, as phones read it.
    pub ntfy: Option<NtfyConfig>,
    /// Slack, or what understands its webhooks.
    pub slack: Option<SlackConfig>,
}

/// What a person may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationKind {
    /// Something waits for an answer.
    Approval,
    /// A task needs attention for another reason.
    Attention,
    /// A run ended well.
    Complete,
    /// A run ended badly.
    Failed,
}

/// `[notifications.webhook]`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookConfig {
    /// Where it is posted to.
    pub url: String,
    /// A file with a bearer token.
    #[serde(default)]
    pub token_file: Option<String>,
    /// The variable of the daemon that holds a bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
}

/// `[notifications.ntfy]`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NtfyConfig {
    /// The server: `https://ntfy.sh`.
    pub url: String,
    /// The topic; who knows it can read it.
    pub topic: String,
    /// A file with an access token.
    #[serde(default)]
    pub token_file: Option<String>,
    /// The variable of the daemon that holds an access token.
    #[serde(default)]
    pub token_env: Option<String>,
}

/// `[notifications.slack]`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlackConfig {
    /// The webhook's URL; who has it can post.
    pub url: String,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// There is none.
    None,
    /// In a variable of the daemon.
    Env(String),
    /// In a file.
    File(String),
}

impl TokenConfig {
    fn of(file: Option<&String>, env: Option<&String>) -> Self {
        match (file, env) {
            (Some(file), _) => Self::File(file.clone()),
            (None, Some(env)) => Self::Env(env.clone()),
            (None, None) => Self::None,
        }
    }
}

impl WebhookConfig {
    /// Where its token is.
    pub fn token(&self) -> TokenConfig {
        TokenConfig::of(self.token_file.as_ref(), self.token_env.as_ref())
    }
}

impl NtfyConfig {
    /// Where its token is.
    pub fn token(&self) -> TokenConfig {
        TokenConfig::of(self.token_file.as_ref(), self.token_env.as_ref())
    }
}

macro_rules! secret {
    ($($name:ident)*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // A URL may be all that it takes to post.
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        })*
    };
}

secret!(WebhookConfig NtfyConfig SlackConfig);

impl NotificationsConfig {
    /// Whether a kind is told.
    pub fn tells(&self, kind: NotificationKind) -> bool {
        const DEFAULT: [NotificationKind; 3] =
            [NotificationKind::Approval, NotificationKind::Attention, NotificationKind::Complete];
        self.kinds.as_deref().unwrap_or(&DEFAULT).contains(&kind)
    }

    /// Refuses what could never be sent. The text is the file's, to point at.
    pub(super) fn check(&self, text: &str) -> Result<(), ConfigError> {
        let web = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && !url.contains(char::is_whitespace)
            })
        };
        let urls = [
            ("webhook", self.webhook.as_ref().map(|it| &it.url)),
            ("ntfy", self.ntfy.as_ref().map(|it| &it.url)),
            ("slack", self.slack.as_ref().map(|it| &it.url)),
            ("link", self.link.as_ref()),
        ];
        for (name, url) in urls {
            if url.is_some_and(|url| !web(url)) {
                // The text itself may be a secret.
                let message = format!("the address of {name} does not begin with https:// or http://");
                return Err(ConfigError::near(message, text, &["notifications", name]));
            }
        }
        let topic = |topic: &str| {
            (1..=64).contains(&topic.len())
                && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if self.ntfy.as_ref().is_some_and(|ntfy| !topic(&ntfy.topic)) {
            let message = "a topic of ntfy has 1 to 64 letters, digits, - and _".to_owned();
            return Err(ConfigError::near(message, text, &["notifications", "topic"]));
        }
        Ok(())
    }
}
